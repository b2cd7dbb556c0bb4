"""The request bodies of the Anthropic Messages API."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from loqal.server.shared.body import Body
from loqal.server.shared.fields import Unread, ignored, rejected, sampled, supported

_CACHE = "the prefix cache is automatic; usage reports the cached tokens"
_CALLER = "only the model calls tools; the server runs no code"
_NO_TOOLSETS = "the server has no toolsets"
_TYPE = "the type of this object"
_ROLE = "the role of the message"


class CacheControl(Body):
    """A cache breakpoint."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class TextBlock(Body):
    """A text block."""

    type: Literal["text"] = supported(_TYPE, ...)
    text: str = supported("the text; names of control tokens in it are plain text", ...)
    cache_control: CacheControl | None = ignored(_CACHE)
    citations: list[dict[str, Any]] | None = ignored("the model reads the text without its citations")


class Base64Image(Body):
    """An image in base64."""

    type: Literal["base64"] = supported(_TYPE, ...)
    media_type: Literal["image/png", "image/jpeg", "image/gif", "image/webp"] = supported(
        "the media type, which must match the data", ...
    )
    data: str = supported("the image in base64", ..., examples=["iVBORw0KGgo="])


class UrlImage(Body):
    """An image by its URL."""

    type: Literal["url"] = supported(_TYPE, ...)
    url: str = supported("a data: URL, or an http(s) URL if the server allows it", ..., examples=["data:,x"])


class FileImage(Unread):
    """An uploaded image."""

    type: Literal["file"] = rejected("the server stores no files; send the image in base64", ...)


class ImageTransformations(Body):
    """How a large image is processed."""

    oversized_image: Literal["downsize", "error"] | None = rejected(
        "images are always scaled to the model's limits", neutral=("downsize",), examples=["error"]
    )


class ImageBlock(Body):
    """An image block."""

    type: Literal["image"] = supported(_TYPE, ...)
    source: Annotated[Base64Image | UrlImage | FileImage, Field(discriminator="type")] = supported("the image", ...)
    cache_control: CacheControl | None = ignored(_CACHE)
    transformations: ImageTransformations | None = supported("see its fields")


class DocumentBlock(Unread):
    """A document block."""

    type: Literal["document"] = rejected("the model reads text and images; send text, or the pages as images", ...)


class SearchResultBlock(Unread):
    """A search result block."""

    type: Literal["search_result"] = rejected("the model was not trained on search result blocks; send text", ...)


class ServerToolBlock(Unread):
    """A call or result of a server tool."""

    type: Literal[
        "server_tool_use",
        "web_search_tool_result",
        "web_fetch_tool_result",
        "code_execution_tool_result",
        "bash_code_execution_tool_result",
        "text_editor_code_execution_tool_result",
        "tool_search_tool_result",
        "container_upload",
    ] = rejected("the server has no server tools, and the model was not trained on their results", ...)


class ThinkingBlock(Body):
    """A thinking block of an earlier message."""

    type: Literal["thinking"] = supported(_TYPE, ...)
    thinking: str = supported("the reasoning, which the chat template may keep in the prompt", ...)
    signature: str = supported("a digest of the reasoning; a mismatch is reported in warnings", ...)


class RedactedThinkingBlock(Unread):
    """A thinking block that is encrypted."""

    type: Literal["redacted_thinking"] = ignored("this server cannot decrypt it and leaves it out of the prompt", ...)


class ToolUseBlock(Body):
    """A tool call of an earlier message."""

    type: Literal["tool_use"] = supported(_TYPE, ...)
    id: str = supported("the id that its tool result refers to", ..., min_length=1)
    name: str = supported("the name of the tool", ...)
    input: dict[str, Any] = supported("the arguments, in their order", ..., examples=[{"a": 1}])
    cache_control: CacheControl | None = ignored(_CACHE)
    caller: dict[str, Any] | None = rejected(_CALLER, neutral=({"type": "direct"},), examples=[{"type": "x"}])
    toolset_name: str | None = rejected(_NO_TOOLSETS)


class ToolResultBlock(Body):
    """A tool result."""

    type: Literal["tool_result"] = supported(_TYPE, ...)
    tool_use_id: str = supported("the tool call of this result; results are read in the order of the calls", ...)
    content: str | list[ResultBlock] | None = supported("the result: text and images", examples=["21 degrees"])
    is_error: bool = ignored("the model reads the content alone; describe the error there", False)
    cache_control: CacheControl | None = ignored(_CACHE)
    toolset_name: str | None = rejected(_NO_TOOLSETS)


ResultBlock = Annotated[TextBlock | ImageBlock | DocumentBlock | SearchResultBlock, Field(discriminator="type")]
UserBlock = Annotated[
    TextBlock | ImageBlock | ToolResultBlock | DocumentBlock | SearchResultBlock | ServerToolBlock,
    Field(discriminator="type"),
]
AssistantBlock = Annotated[
    TextBlock | ThinkingBlock | RedactedThinkingBlock | ToolUseBlock | ServerToolBlock, Field(discriminator="type")
]


class UserMessage(Body):
    """A user message."""

    role: Literal["user"] = supported(_ROLE, ...)
    content: str | list[UserBlock] = supported("text, images and tool results, in their order", ...)


class AssistantMessage(Body):
    """An assistant message; the last message of the request is continued."""

    role: Literal["assistant"] = supported(_ROLE, ...)
    content: str | list[AssistantBlock] = supported("reasoning, text and tool calls; a last message is continued", ...)


class SystemMessage(Body):
    """A system message within the conversation."""

    role: Literal["system"] = supported(_ROLE, ...)
    content: str | list[TextBlock] = supported("the text", ...)


InputMessage = Annotated[UserMessage | AssistantMessage | SystemMessage, Field(discriminator="role")]


class Tool(Body):
    """The definition of a tool that the model may call."""

    type: Literal["custom"] | None = supported(
        "the type of this object; server tools are rejected", examples=["custom"]
    )
    name: str = supported("the name of the tool", ..., pattern=r"^[a-zA-Z0-9_.-]{1,128}$")
    description: str | None = supported("the description that the model reads")
    input_schema: dict[str, Any] = supported("the JSON schema of the arguments", ..., examples=[{"type": "object"}])
    strict: bool | None = supported(
        "true rejects a schema that cannot be enforced completely, false does not enforce it"
    )
    input_examples: list[dict[str, Any]] | None = supported("examples that the model reads", examples=[[{"a": 1}]])
    cache_control: CacheControl | None = ignored(_CACHE)
    eager_input_streaming: bool | None = ignored("arguments are streamed when their tool call is complete")
    defer_loading: bool = rejected("the prompt always has all tools", False, neutral=(False,))
    allowed_callers: list[str] | None = rejected(_CALLER, neutral=(["direct"],), examples=[["code_execution_20250825"]])


class ChooseFreely(Body):
    """The model decides whether to call tools."""

    type: Literal["auto"] = supported("the model decides whether to call tools", ...)
    disable_parallel_tool_use: bool = supported("at most one tool call", False)


class ChooseAny(Body):
    """At least one tool is called."""

    type: Literal["any"] = supported("at least one tool must be called", ...)
    disable_parallel_tool_use: bool = supported("exactly one tool call", False)


class ChooseTool(Body):
    """One tool is called."""

    type: Literal["tool"] = supported("the named tool must be called", ...)
    name: str = supported("the name of the tool", ..., examples=["look"])
    disable_parallel_tool_use: bool = supported("exactly one tool call", False)


class ChooseNone(Body):
    """No tool is called."""

    type: Literal["none"] = supported("no tool may be called", ...)


ToolChoice = Annotated[ChooseFreely | ChooseAny | ChooseTool | ChooseNone, Field(discriminator="type")]

_DISPLAY: Any = supported(
    "omitted returns empty thinking blocks; otherwise they have the full reasoning, not a summary"
)


class ThinkingEnabled(Body):
    """Thinking with a token budget."""

    type: Literal["enabled"] = supported("think before the answer", ...)
    budget_tokens: int = supported("maximum number of reasoning tokens, after which the answer follows", ..., ge=1)
    display: Literal["summarized", "omitted"] | None = _DISPLAY


class ThinkingAdaptive(Body):
    """Thinking for as long as the model decides."""

    type: Literal["adaptive"] = supported("think before the answer, for as long as the model decides", ...)
    display: Literal["summarized", "omitted"] | None = _DISPLAY


class ThinkingDisabled(Body):
    """No thinking."""

    type: Literal["disabled"] = supported("answer without thinking", ...)


class ThinkingBetweenTools(Unread):
    """Thinking between tool calls."""

    type: Literal["between_tools"] = rejected("the model thinks before its tool calls, not between them", ...)


ThinkingConfig = Annotated[
    ThinkingEnabled | ThinkingAdaptive | ThinkingDisabled | ThinkingBetweenTools, Field(discriminator="type")
]


class JsonFormat(Body):
    """JSON output that satisfies a schema."""

    type: Literal["json_schema"] = supported("the output is constrained to a JSON schema", ...)
    schema_: dict[str, Any] = supported("the JSON schema", ..., alias="schema", examples=[{}])


class OutputConfig(Body):
    """Effort and format of the output."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = supported("a budget of reasoning tokens")
    format: JsonFormat | None = supported("the format of the output")


class Metadata(Body):
    """Metadata of the request."""

    user_id: str | None = ignored("clients are identified by their API key")


class CountTokensBody(Body):
    """The body of POST /v1/messages/count_tokens."""

    model: str = supported("the name of a served model", ..., min_length=1)
    messages: list[InputMessage] = supported("the conversation", ..., min_length=1)
    system: str | list[TextBlock] | None = supported("the system message", examples=["Be brief."])
    tools: list[Tool] | None = supported("the tools that the model may call")
    tool_choice: ToolChoice | None = supported("whether tools are called, and which")
    thinking: ThinkingConfig | None = supported(
        "whether to think, and the budget; by default as the chat template does"
    )
    output_config: OutputConfig | None = supported("effort and format of the output")
    cache_control: CacheControl | None = ignored(_CACHE)
    speed: Literal["standard", "fast"] | None = ignored("the server has one speed")
    user_profile_id: str | None = ignored("the server has no user profiles")
    workspace_id: str | None = ignored("the server has no workspaces")


class MessagesBody(CountTokensBody):
    """The body of POST /v1/messages."""

    max_tokens: int = sampled("max_tokens", "maximum number of tokens to generate, reasoning included", ...)
    stop_sequences: list[str] | None = supported(
        "stop strings; the reply ends before the first of them", examples=[["###"]]
    )
    stream: bool = supported("whether to stream the reply", False)
    temperature: float | None = sampled("temperature", "sampling temperature; 0 selects the most likely token")
    top_k: int | None = sampled("top_k", "sample from the k most likely tokens; 0 disables")
    top_p: float | None = sampled("top_p", "nucleus sampling: cumulative probability of the tokens to sample from")
    metadata: Metadata | None = supported("see its fields")
    service_tier: Literal["auto", "standard_only"] | None = ignored("requests of this API have one priority")
    inference_geo: str | None = ignored("the model runs on this machine")
    container: str | dict[str, Any] | None = rejected("the server runs no code")
    diagnostics: dict[str, Any] | None = ignored("usage always has the cached tokens and the reason for a cache miss")
    mcp_servers: list[dict[str, Any]] | None = rejected("the server connects to no MCP servers", neutral=([],))
    context_management: dict[str, Any] | None = rejected("conversations are never shortened; a longer one is rejected")
    seed: int | None = sampled("seed", "sampling seed (extension)")


ToolResultBlock.model_rebuild()
