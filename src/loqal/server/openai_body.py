"""The bodies and answers of the OpenAI dialect, field by field, as pydantic models."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from .request import MAX_CHOICES, Body
from .thinking import ThinkingFields

MAX_TOOLS = 128
Number = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=2**31)]


class TextContent(Body):
    """A run of text."""

    type: Literal["text"]
    text: str


class RefusalContent(Body):
    """What an assistant said instead of an answer; it is text like any other."""

    type: Literal["refusal"]
    refusal: str


class ImageUrl(Body):
    """``detail`` bounds what the image may cost; ``min_tokens`` and ``max_tokens`` say it exactly."""

    url: str
    detail: Literal["auto", "low", "high"] | None = None
    min_tokens: Count | None = None
    max_tokens: Count | None = None


class ImageContent(Body):
    """An image."""

    type: Literal["image_url"]
    image_url: ImageUrl | str


class VideoUrl(Body):
    """``fps`` frames a second are looked at, at most ``max_frames`` in all."""

    url: str
    fps: Annotated[float, Field(gt=0, le=240)] | None = None
    max_frames: Annotated[int, Field(ge=1, le=100_000)] | None = None
    max_tokens: Count | None = None


class VideoContent(Body):
    """A video."""

    type: Literal["video_url"]
    video_url: VideoUrl | str


class AudioContent(Body):
    """Sound, which this family does not hear."""

    type: Literal["input_audio"]
    input_audio: dict[str, Any]


class FileContent(Body):
    """A file, which has to be turned into text or images first."""

    type: Literal["file"]
    file: dict[str, Any]


Content = Annotated[
    TextContent | RefusalContent | ImageContent | VideoContent | AudioContent | FileContent, Field(discriminator="type")
]


class FunctionCall(Body):
    """``arguments`` is the JSON text of an object."""

    name: str
    arguments: str


class FunctionToolCall(Body):
    """A call of a function."""

    id: str | None = None
    type: Literal["function"] = "function"
    function: FunctionCall
    index: int | None = None


class SystemMessage(Body):
    """What the assistant is told beforehand."""

    role: Literal["system"]
    content: str | list[Content]
    name: str | None = None


class DeveloperMessage(Body):
    """The newer name of a system message."""

    role: Literal["developer"]
    content: str | list[Content]
    name: str | None = None


class UserMessage(Body):
    """What a person says."""

    role: Literal["user"]
    content: str | list[Content]
    name: str | None = None


class AssistantMessage(Body):
    """What the model said before, reasoning included, under either of its names."""

    role: Literal["assistant"]
    content: str | list[Content] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[FunctionToolCall] | None = None
    refusal: str | None = None
    name: str | None = None
    audio: dict[str, Any] | None = None
    function_call: FunctionCall | None = None
    annotations: list[Any] | None = None


class ToolMessage(Body):
    """What a tool answered."""

    role: Literal["tool"]
    content: str | list[Content]
    tool_call_id: str | None = None
    name: str | None = None


class FunctionMessage(Body):
    """The older name of a tool message."""

    role: Literal["function"]
    content: str | None
    name: str


ChatMessage = Annotated[
    SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage | FunctionMessage,
    Field(discriminator="role"),
]


class FunctionDefinition(Body):
    """A function the model may call."""

    name: Annotated[str, Field(min_length=1, max_length=256)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionTool(Body):
    """A tool that is a function."""

    type: Literal["function"]
    function: FunctionDefinition


class CustomTool(Body):
    """A tool that takes free text, which this family was not made for."""

    type: Literal["custom"]
    custom: dict[str, Any]


class NamedFunction(Body):
    """The name of a function."""

    name: str


class NamedFunctionTool(Body):
    """The turn must call this function."""

    type: Literal["function"]
    function: NamedFunction


class AllowedTools(Body):
    """The turn may use these tools only."""

    mode: Literal["auto", "required"]
    tools: list[NamedFunctionTool]


class AllowedToolsChoice(Body):
    """A choice among tools."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


class TextFormat(Body):
    """Any text."""

    type: Literal["text"]


class JsonObjectFormat(Body):
    """Any JSON object."""

    type: Literal["json_object"]


class NamedSchema(Body):
    """A JSON schema with a name."""

    name: Annotated[str, Field(max_length=256)]
    description: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None


class JsonSchemaFormat(Body):
    """JSON that a schema accepts."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


class StructuredOutputs(Body):
    """One of the other constraints on the answer."""

    json_: dict[str, Any] | str | None = Field(None, alias="json")
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None


class StreamOptions(Body):
    """What a stream tells besides the answer."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class SamplingFields(Body):
    """How tokens are chosen, for chats and for completions."""

    model: str
    frequency_penalty: Number | None = None
    presence_penalty: Number | None = None
    logit_bias: dict[str, Number] | None = None
    max_tokens: Count | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    seed: int | None = None
    stop: str | Annotated[list[str], Field(max_length=64)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Number | None = None
    top_p: Number | None = None
    user: Annotated[str, Field(max_length=512)] | None = None
    # beyond the dialect
    top_k: int | None = None
    min_p: Number | None = None
    repetition_penalty: Number | None = None
    stop_token_ids: Annotated[list[int], Field(max_length=64)] | None = None
    ignore_eos: bool | None = None
    priority: Annotated[int, Field(ge=-100, le=100)] | None = None


class ChatBody(SamplingFields, ThinkingFields):
    """A conversation to be continued."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    audio: dict[str, Any] | None = None
    function_call: Any = None
    functions: list[Any] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    max_completion_tokens: Count | None = None
    metadata: dict[str, str] | None = None
    modalities: list[Literal["text", "audio"]] | None = None
    parallel_tool_calls: bool | None = None
    prediction: dict[str, Any] | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    response_format: Annotated[TextFormat | JsonObjectFormat | JsonSchemaFormat | None, Field(discriminator="type")] = (
        None
    )
    safety_identifier: Annotated[str, Field(max_length=512)] | None = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority"] | None = None
    store: bool | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedFunctionTool | AllowedToolsChoice | None = None
    tools: (
        Annotated[list[Annotated[FunctionTool | CustomTool, Field(discriminator="type")]], Field(max_length=MAX_TOOLS)]
        | None
    ) = None
    verbosity: Literal["low", "medium", "high"] | None = None
    web_search_options: dict[str, Any] | None = None
    # beyond the dialect
    structured_outputs: StructuredOutputs | None = None
    continue_final_message: bool | None = None
    replay: Literal["exact", "template"] | None = None


class Usage(BaseModel):
    """Counts of tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: dict[str, Any]
    completion_tokens_details: dict[str, Any]


class ChatChoice(BaseModel):
    """One reply."""

    index: int
    message: dict[str, Any]
    finish_reason: Literal["stop", "length", "tool_calls"]
    logprobs: dict[str, Any] | None


class ChatCompletion(BaseModel):
    """The answer to a chat."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    system_fingerprint: str
    service_tier: str
    warnings: list[str] = []


class ChunkChoice(BaseModel):
    """A piece of one reply."""

    index: int
    delta: dict[str, Any]
    finish_reason: Literal["stop", "length", "tool_calls"] | None
    logprobs: dict[str, Any] | None = None


class ChatCompletionChunk(BaseModel):
    """One event of a streamed chat."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
    system_fingerprint: str
    service_tier: str
    warnings: list[str] = []


class Model(BaseModel):
    """A model that is served."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(BaseModel):
    """All models that are served."""

    object: Literal["list"]
    data: list[Model]
