"""The requests of Anthropic's Messages API, field by field."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from loqal.server.shared.fields import Unread, honoured, noted, refused
from loqal.server.shared.generation_request import Body

_CACHE = "the prefix cache keeps every beginning by itself and reports what it saved"
_CALLER = "tools are called by the model itself; nothing runs here"


class CacheControl(Body):
    """Where to cache."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class TextBlock(Body):
    """Text."""

    type: Literal["text"] = honoured("what kind of block this is", ...)
    text: str = honoured("the text, never read as control tokens", ...)
    cache_control: CacheControl | None = noted(_CACHE)
    citations: list[dict[str, Any]] | None = noted("where a text came from; the model reads the text alone")


class Base64Image(Body):
    """An image in the request."""

    type: Literal["base64"] = honoured("what kind of source this is", ...)
    media_type: Literal["image/png", "image/jpeg", "image/gif", "image/webp"] = honoured("must fit the bytes", ...)
    data: str = honoured("the file's bytes in base64", ..., examples=["iVBORw0KGgo="])


class UrlImage(Body):
    """An image on the network."""

    type: Literal["url"] = honoured("what kind of source this is", ...)
    url: str = honoured("a data: URL, or an http URL where the server allows it", ..., examples=["data:,x"])


class FileImage(Unread):
    """An image among uploaded files."""

    type: Literal["file"] = refused("no files are kept here; send the image's bytes", ...)


class ImageTransformations(Body):
    """What to do with a large image."""

    oversized_image: Literal["downsize", "error"] | None = refused(
        "images are scaled to the model's own bounds", neutral=("downsize",), examples=["error"]
    )


class ImageBlock(Body):
    """An image."""

    type: Literal["image"] = honoured("what kind of block this is", ...)
    source: Annotated[Base64Image | UrlImage | FileImage, Field(discriminator="type")] = honoured("the image", ...)
    cache_control: CacheControl | None = noted(_CACHE)
    transformations: ImageTransformations | None = honoured("see its fields")


class DocumentBlock(Unread):
    """A document."""

    type: Literal["document"] = refused("the model reads text and images; send the text, or the pages as images", ...)


class SearchResultBlock(Unread):
    """A result of a search."""

    type: Literal["search_result"] = refused("the model was not trained on these; send the text", ...)


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
    ] = refused("no searches or programs run here, and the model was not trained on their results", ...)


class ThinkingBlock(Body):
    """Reasoning of an earlier turn."""

    type: Literal["thinking"] = honoured("what kind of block this is", ...)
    thinking: str = honoured("the reasoning, which the model reads again where its template keeps it", ...)
    signature: str = honoured("a digest of the reasoning; one that does not fit is reported in warnings", ...)


class RedactedThinkingBlock(Unread):
    """Reasoning that only its maker can read."""

    type: Literal["redacted_thinking"] = noted("the reasoning cannot be read here and is left out", ...)


class ToolUseBlock(Body):
    """A call of an earlier turn."""

    type: Literal["tool_use"] = honoured("what kind of block this is", ...)
    id: str = honoured("which result belongs to this call", ..., min_length=1)
    name: str = honoured("the tool that was called", ...)
    input: dict[str, Any] = honoured("the arguments, in their order", ..., examples=[{"a": 1}])
    cache_control: CacheControl | None = noted(_CACHE)
    caller: dict[str, Any] | None = refused(_CALLER, neutral=({"type": "direct"},), examples=[{"type": "x"}])
    toolset_name: str | None = refused("there are no toolsets here")


class ToolResultBlock(Body):
    """What a tool answered."""

    type: Literal["tool_result"] = honoured("what kind of block this is", ...)
    tool_use_id: str = honoured("the call it answers; results are put in the order of their calls", ...)
    content: str | list[ResultBlock] | None = honoured("text and images the model reads", examples=["21 degrees"])
    is_error: bool = noted("the model reads the content alone; say there what went wrong", False)
    cache_control: CacheControl | None = noted(_CACHE)
    toolset_name: str | None = refused("there are no toolsets here")


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

    role: Literal["user"] = honoured("who speaks", ...)
    content: str | list[UserBlock] = honoured("text, images and results of tools, in their order", ...)


class AssistantMessage(Body):
    """A turn of the assistant; as the last message it is continued."""

    role: Literal["assistant"] = honoured("who speaks", ...)
    content: str | list[AssistantBlock] = honoured("reasoning, text and calls; as the last message, continued", ...)


class SystemMessage(Body):
    """Instructions in the middle of a conversation."""

    role: Literal["system"] = honoured("who speaks", ...)
    content: str | list[TextBlock] = honoured("instructions", ...)


InputMessage = Annotated[UserMessage | AssistantMessage | SystemMessage, Field(discriminator="role")]


class Tool(Body):
    """A function the model may call."""

    type: Literal["custom"] | None = honoured("functions of the caller only", examples=["custom"])
    name: str = honoured("the function's name", ..., pattern=r"^[a-zA-Z0-9_.-]{1,128}$")
    description: str | None = honoured("shown to the model")
    input_schema: dict[str, Any] = honoured("JSON schema of the arguments", ..., examples=[{"type": "object"}])
    strict: bool = honoured("whether the arguments must satisfy the schema", False)
    input_examples: list[dict[str, Any]] | None = honoured("shown to the model", examples=[[{"a": 1}]])
    cache_control: CacheControl | None = noted(_CACHE)
    eager_input_streaming: bool | None = noted("arguments are streamed when their call is complete")
    defer_loading: bool = refused("every tool is shown to the model from the start", False, neutral=(False,))
    allowed_callers: list[str] | None = refused(_CALLER, neutral=(["direct"],), examples=[["code_execution_20250825"]])


class ChooseFreely(Body):
    """The model decides."""

    type: Literal["auto"] = honoured("the model decides", ...)
    disable_parallel_tool_use: bool = honoured("at most one call", False)


class ChooseAny(Body):
    """Some tool is called."""

    type: Literal["any"] = honoured("some tool must be called", ...)
    disable_parallel_tool_use: bool = honoured("exactly one call", False)


class ChooseTool(Body):
    """One tool is called."""

    type: Literal["tool"] = honoured("the named tool must be called", ...)
    name: str = honoured("the tool to call", ..., examples=["look"])
    disable_parallel_tool_use: bool = honoured("exactly one call", False)


class ChooseNone(Body):
    """No tool is called."""

    type: Literal["none"] = honoured("no tool may be called", ...)


ToolChoice = Annotated[ChooseFreely | ChooseAny | ChooseTool | ChooseNone, Field(discriminator="type")]

_DISPLAY: Any = honoured("omitted: thinking blocks come empty; else they hold the reasoning itself, not a summary")


class ThinkingEnabled(Body):
    """Think, up to a budget."""

    type: Literal["enabled"] = honoured("reason before the answer", ...)
    budget_tokens: int = honoured("most tokens of reasoning; then it is closed and the answer follows", ..., ge=1)
    display: Literal["summarized", "omitted"] | None = _DISPLAY


class ThinkingAdaptive(Body):
    """Think as much as is useful."""

    type: Literal["adaptive"] = honoured("reason before the answer, as long as the model finds useful", ...)
    display: Literal["summarized", "omitted"] | None = _DISPLAY


class ThinkingDisabled(Body):
    """Do not think."""

    type: Literal["disabled"] = honoured("answer at once", ...)


class ThinkingBetweenTools(Unread):
    """Think between calls only."""

    type: Literal["between_tools"] = refused("a turn reasons before its calls, never between them", ...)


ThinkingConfig = Annotated[
    ThinkingEnabled | ThinkingAdaptive | ThinkingDisabled | ThinkingBetweenTools, Field(discriminator="type")
]


class JsonFormat(Body):
    """The answer is JSON of a schema."""

    type: Literal["json_schema"] = honoured("the answer is JSON", ...)
    schema_: dict[str, Any] = honoured("the schema the answer satisfies", ..., alias="schema", examples=[{}])


class OutputConfig(Body):
    """How to answer."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = honoured("a budget of reasoning")
    format: JsonFormat | None = honoured("the answer's form")


class Metadata(Body):
    """About the request."""

    user_id: str | None = noted("who the key belongs to counts, not what a request says")


class CountTokensBody(Body):
    """Body of POST /v1/messages/count_tokens."""

    model: str = honoured("which of the served models answers", ..., min_length=1)
    messages: list[InputMessage] = honoured("the conversation", ..., min_length=1)
    system: str | list[TextBlock] | None = honoured("instructions before the conversation", examples=["Be brief."])
    tools: list[Tool] | None = honoured("functions the model may call")
    tool_choice: ToolChoice | None = honoured("whether and which tool is called")
    thinking: ThinkingConfig | None = honoured("whether and how long to reason; absent: as the model's template says")
    output_config: OutputConfig | None = honoured("effort and form of the answer")
    cache_control: CacheControl | None = noted(_CACHE)
    speed: Literal["standard", "fast"] | None = noted("everything runs as fast as this machine can")
    user_profile_id: str | None = noted("there are no profiles here")
    workspace_id: str | None = noted("there are no workspaces here")


class MessagesBody(CountTokensBody):
    """Body of POST /v1/messages."""

    max_tokens: int = honoured("most tokens of reasoning and answer together", ..., ge=1)
    stop_sequences: list[str] | None = honoured("the answer ends before any of these", examples=[["###"]])
    stream: bool = honoured("send the reply while it is written", False)
    temperature: float | None = honoured("0 picks the likeliest token", ge=0)
    top_k: int | None = honoured("sample among the k likeliest tokens", ge=0)
    top_p: float | None = honoured("sample among the likeliest tokens that sum to p", gt=0, le=1)
    metadata: Metadata | None = honoured("see its fields")
    service_tier: Literal["auto", "standard_only"] | None = noted("no request of this dialect is served before another")
    inference_geo: str | None = noted("everything is computed on this machine")
    container: str | dict[str, Any] | None = refused("no code runs here")
    diagnostics: dict[str, Any] | None = noted("usage always says what the cache saved and why not more")
    mcp_servers: list[dict[str, Any]] | None = refused("the server calls no other servers", neutral=([],))
    context_management: dict[str, Any] | None = refused("a conversation is read whole or refused, never cut")
    seed: int | None = honoured("seed of the sampling noise; an addition of loqal's")


ToolResultBlock.model_rebuild()
