"""The requests of Anthropic's Messages API, field by field."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from loqal.server.shared.fields import Unread, ignored, rejected, supported
from loqal.server.shared.generation_request import Body

_CACHE = "the prefix cache keeps every beginning by itself and reports what it saved"
_CALLER = "tools are called by the model itself; nothing runs here"


class CacheControl(Body):
    """Where to cache."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class TextBlock(Body):
    """Text."""

    type: Literal["text"] = supported("what kind of block this is", ...)
    text: str = supported("the text, never read as control tokens", ...)
    cache_control: CacheControl | None = ignored(_CACHE)
    citations: list[dict[str, Any]] | None = ignored("where a text came from; the model reads the text alone")


class Base64Image(Body):
    """An image in the request."""

    type: Literal["base64"] = supported("what kind of source this is", ...)
    media_type: Literal["image/png", "image/jpeg", "image/gif", "image/webp"] = supported("must fit the bytes", ...)
    data: str = supported("the file's bytes in base64", ..., examples=["iVBORw0KGgo="])


class UrlImage(Body):
    """An image on the network."""

    type: Literal["url"] = supported("what kind of source this is", ...)
    url: str = supported("a data: URL, or an http URL where the server allows it", ..., examples=["data:,x"])


class FileImage(Unread):
    """An image among uploaded files."""

    type: Literal["file"] = rejected("no files are kept here; send the image's bytes", ...)


class ImageTransformations(Body):
    """What to do with a large image."""

    oversized_image: Literal["downsize", "error"] | None = rejected(
        "images are scaled to the model's own bounds", neutral=("downsize",), examples=["error"]
    )


class ImageBlock(Body):
    """An image."""

    type: Literal["image"] = supported("what kind of block this is", ...)
    source: Annotated[Base64Image | UrlImage | FileImage, Field(discriminator="type")] = supported("the image", ...)
    cache_control: CacheControl | None = ignored(_CACHE)
    transformations: ImageTransformations | None = supported("see its fields")


class DocumentBlock(Unread):
    """A document."""

    type: Literal["document"] = rejected("the model reads text and images; send the text, or the pages as images", ...)


class SearchResultBlock(Unread):
    """A result of a search."""

    type: Literal["search_result"] = rejected("the model was not trained on these; send the text", ...)


class ServerToolBlock(Unread):
    """A call that ran on another server."""

    type: Literal[
        "server_tool_use",
        "web_search_tool_result",
        "web_fetch_tool_result",
        "code_execution_tool_result",
        "bash_code_execution_tool_result",
        "text_editor_code_execution_tool_result",
        "tool_search_tool_result",
        "container_upload",
    ] = rejected("no searches or programs run here, and the model was not trained on their results", ...)


class ThinkingBlock(Body):
    """Reasoning of an earlier turn."""

    type: Literal["thinking"] = supported("what kind of block this is", ...)
    thinking: str = supported("the reasoning, which the model reads again where its template keeps it", ...)
    signature: str = supported("a digest of the reasoning; one that does not fit is reported in warnings", ...)


class RedactedThinkingBlock(Unread):
    """Reasoning that only its maker can read."""

    type: Literal["redacted_thinking"] = ignored("the reasoning cannot be read here and is left out", ...)


class ToolUseBlock(Body):
    """A call of an earlier turn."""

    type: Literal["tool_use"] = supported("what kind of block this is", ...)
    id: str = supported("which result belongs to this call", ..., min_length=1)
    name: str = supported("the tool that was called", ...)
    input: dict[str, Any] = supported("the arguments, in their order", ..., examples=[{"a": 1}])
    cache_control: CacheControl | None = ignored(_CACHE)
    caller: dict[str, Any] | None = rejected(_CALLER, neutral=({"type": "direct"},), examples=[{"type": "x"}])
    toolset_name: str | None = rejected("there are no toolsets here")


class ToolResultBlock(Body):
    """What a tool answered."""

    type: Literal["tool_result"] = supported("what kind of block this is", ...)
    tool_use_id: str = supported("the call it answers; results are put in the order of their calls", ...)
    content: str | list[ResultBlock] | None = supported("text and images the model reads", examples=["21 degrees"])
    is_error: bool = ignored("the model reads the content alone; say there what went wrong", False)
    cache_control: CacheControl | None = ignored(_CACHE)
    toolset_name: str | None = rejected("there are no toolsets here")


ResultBlock = Annotated[TextBlock | ImageBlock | DocumentBlock | SearchResultBlock, Field(discriminator="type")]
UserBlock = Annotated[
    TextBlock | ImageBlock | ToolResultBlock | DocumentBlock | SearchResultBlock | ServerToolBlock,
    Field(discriminator="type"),
]
AssistantBlock = Annotated[
    TextBlock | ThinkingBlock | RedactedThinkingBlock | ToolUseBlock | ServerToolBlock, Field(discriminator="type")
]


class UserMessage(Body):
    """A turn of the user."""

    role: Literal["user"] = supported("who speaks", ...)
    content: str | list[UserBlock] = supported("text, images and results of tools, in their order", ...)


class AssistantMessage(Body):
    """A turn of the assistant; as the last message it is continued."""

    role: Literal["assistant"] = supported("who speaks", ...)
    content: str | list[AssistantBlock] = supported("reasoning, text and calls; as the last message, continued", ...)


class SystemMessage(Body):
    """Instructions in the middle of a conversation."""

    role: Literal["system"] = supported("who speaks", ...)
    content: str | list[TextBlock] = supported("instructions", ...)


InputMessage = Annotated[UserMessage | AssistantMessage | SystemMessage, Field(discriminator="role")]


class Tool(Body):
    """A function the model may call."""

    type: Literal["custom"] | None = supported("functions of the caller only", examples=["custom"])
    name: str = supported("the function's name", ..., pattern=r"^[a-zA-Z0-9_.-]{1,128}$")
    description: str | None = supported("shown to the model")
    input_schema: dict[str, Any] = supported("JSON schema of the arguments", ..., examples=[{"type": "object"}])
    strict: bool = supported("whether the arguments must satisfy the schema", False)
    input_examples: list[dict[str, Any]] | None = supported("shown to the model", examples=[[{"a": 1}]])
    cache_control: CacheControl | None = ignored(_CACHE)
    eager_input_streaming: bool | None = ignored("arguments are streamed when their call is complete")
    defer_loading: bool = rejected("every tool is shown to the model from the start", False, neutral=(False,))
    allowed_callers: list[str] | None = rejected(_CALLER, neutral=(["direct"],), examples=[["code_execution_20250825"]])


class ChooseFreely(Body):
    """The model decides."""

    type: Literal["auto"] = supported("the model decides", ...)
    disable_parallel_tool_use: bool = supported("at most one call", False)


class ChooseAny(Body):
    """Some tool is called."""

    type: Literal["any"] = supported("some tool must be called", ...)
    disable_parallel_tool_use: bool = supported("exactly one call", False)


class ChooseTool(Body):
    """One tool is called."""

    type: Literal["tool"] = supported("the named tool must be called", ...)
    name: str = supported("the tool to call", ..., examples=["look"])
    disable_parallel_tool_use: bool = supported("exactly one call", False)


class ChooseNone(Body):
    """No tool is called."""

    type: Literal["none"] = supported("no tool may be called", ...)


ToolChoice = Annotated[ChooseFreely | ChooseAny | ChooseTool | ChooseNone, Field(discriminator="type")]

_DISPLAY: Any = supported("omitted: thinking blocks come empty; else they hold the reasoning itself, not a summary")


class ThinkingEnabled(Body):
    """Think, up to a budget."""

    type: Literal["enabled"] = supported("reason before the answer", ...)
    budget_tokens: int = supported("most tokens of reasoning; then it is closed and the answer follows", ..., ge=1)
    display: Literal["summarized", "omitted"] | None = _DISPLAY


class ThinkingAdaptive(Body):
    """Think as much as is useful."""

    type: Literal["adaptive"] = supported("reason before the answer, as long as the model finds useful", ...)
    display: Literal["summarized", "omitted"] | None = _DISPLAY


class ThinkingDisabled(Body):
    """Do not think."""

    type: Literal["disabled"] = supported("answer at once", ...)


class ThinkingBetweenTools(Unread):
    """Think between calls only."""

    type: Literal["between_tools"] = rejected("a turn reasons before its calls, never between them", ...)


ThinkingConfig = Annotated[
    ThinkingEnabled | ThinkingAdaptive | ThinkingDisabled | ThinkingBetweenTools, Field(discriminator="type")
]


class JsonFormat(Body):
    """The answer is JSON of a schema."""

    type: Literal["json_schema"] = supported("the answer is JSON", ...)
    schema_: dict[str, Any] = supported("the schema the answer satisfies", ..., alias="schema", examples=[{}])


class OutputConfig(Body):
    """How to answer."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = supported("a budget of reasoning")
    format: JsonFormat | None = supported("the answer's form")


class Metadata(Body):
    """About the request."""

    user_id: str | None = ignored("who the key belongs to counts, not what a request says")


class CountTokensBody(Body):
    """Body of POST /v1/messages/count_tokens."""

    model: str = supported("which of the served models answers", ..., min_length=1)
    messages: list[InputMessage] = supported("the conversation", ..., min_length=1)
    system: str | list[TextBlock] | None = supported("instructions before the conversation", examples=["Be brief."])
    tools: list[Tool] | None = supported("functions the model may call")
    tool_choice: ToolChoice | None = supported("whether and which tool is called")
    thinking: ThinkingConfig | None = supported("whether and how long to reason; absent: as the model's template says")
    output_config: OutputConfig | None = supported("effort and form of the answer")
    cache_control: CacheControl | None = ignored(_CACHE)
    speed: Literal["standard", "fast"] | None = ignored("everything runs as fast as this machine can")
    user_profile_id: str | None = ignored("there are no profiles here")
    workspace_id: str | None = ignored("there are no workspaces here")


class MessagesBody(CountTokensBody):
    """Body of POST /v1/messages."""

    max_tokens: int = supported("most tokens of reasoning and answer together", ..., ge=1)
    stop_sequences: list[str] | None = supported("the answer ends before any of these", examples=[["###"]])
    stream: bool = supported("send the reply while it is written", False)
    temperature: float | None = supported("0 picks the likeliest token", ge=0)
    top_k: int | None = supported("sample among the k likeliest tokens", ge=0)
    top_p: float | None = supported("sample among the likeliest tokens that sum to p", gt=0, le=1)
    metadata: Metadata | None = supported("see its fields")
    service_tier: Literal["auto", "standard_only"] | None = ignored("requests of this dialect have one priority")
    inference_geo: str | None = ignored("everything is computed on this machine")
    container: str | dict[str, Any] | None = rejected("no code runs here")
    diagnostics: dict[str, Any] | None = ignored("usage always says what the cache saved and why not more")
    mcp_servers: list[dict[str, Any]] | None = rejected("the server calls no other servers", neutral=([],))
    context_management: dict[str, Any] | None = rejected("a conversation is read whole or rejected, never cut")
    seed: int | None = supported("seed of the sampling noise; an addition of loqal's")


ToolResultBlock.model_rebuild()
