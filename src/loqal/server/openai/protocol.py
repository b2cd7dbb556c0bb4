"""The requests of OpenAI's chats, completions and embeddings, field by field."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from loqal.server.shared.fields import Unread, ignored, rejected, supported
from loqal.server.shared.generation_request import MAX_CHOICES, Body
from loqal.server.shared.thinking import ThinkingFields

_MAX_TOOLS = 128
_MAX_PROMPTS = 2048
_SILENT = "this family does not speak"
_TOOLS_NOW = "it was replaced by tools"
_UNSTORED = "nothing is stored"
_BEGINNINGS = "requests that begin alike share what was read of them, without a key"

Number = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=2**31)]
TokenIds = Annotated[list[int], Field(min_length=1)]
Prompts = str | TokenIds | Annotated[list[str | TokenIds], Field(min_length=1, max_length=_MAX_PROMPTS)]


class TextContent(Body):
    """A run of text."""

    type: Literal["text"] = supported("what kind of part this is", ...)
    text: str = supported("the text, never read as control tokens", ...)


class RefusalContent(Body):
    """What an assistant said instead of an answer."""

    type: Literal["refusal"] = supported("what kind of part this is", ...)
    refusal: str = supported("text of the assistant like any other", ...)


class ImageUrl(Body):
    """An image by its URL."""

    url: str = supported("a data: URL, or an http(s) URL where the server fetches them", ...)
    detail: Literal["auto", "low", "high"] | None = supported("low: at most 256 tokens; else as the model's rules say")
    min_tokens: Count | None = supported("fewest tokens the image becomes (beyond the dialect)")
    max_tokens: Count | None = supported("most tokens the image becomes (beyond the dialect)")


class ImageContent(Body):
    """An image."""

    type: Literal["image_url"] = supported("what kind of part this is", ...)
    image_url: ImageUrl | str = supported("the image", ...)


class VideoUrl(Body):
    """A video by its URL."""

    url: str = supported("a data: URL, or an http(s) URL where the server fetches them", ...)
    fps: Annotated[float, Field(gt=0, le=240)] | None = supported("frames looked at per second")
    max_frames: Annotated[int, Field(ge=1, le=100_000)] | None = supported("most frames looked at")
    max_tokens: Count | None = supported("most tokens the video becomes")


class VideoContent(Body):
    """A video (beyond the dialect)."""

    type: Literal["video_url"] = supported("what kind of part this is", ...)
    video_url: VideoUrl | str = supported("the video", ...)


class AudioContent(Body):
    """Sound."""

    type: Literal["input_audio"] = rejected("this family does not hear", ...)
    input_audio: Unread = rejected("this family does not hear", ...)


class FileContent(Body):
    """A file."""

    type: Literal["file"] = rejected("files have to be turned into text or images first", ...)
    file: Unread = rejected("files have to be turned into text or images first", ...)


Content = Annotated[
    TextContent | RefusalContent | ImageContent | VideoContent | AudioContent | FileContent, Field(discriminator="type")
]


class FunctionCall(Body):
    """What was called."""

    name: str = supported("the tool that was called", ...)
    arguments: str = supported("the JSON text of an object", ..., examples=['{"a": 1}'])


class FunctionToolCall(Body):
    """A call of an earlier turn."""

    id: str | None = supported("which result belongs to this call")
    type: Literal["function"] | None = supported("functions only", examples=["function"])
    function: FunctionCall = supported("what was called", ...)
    index: int | None = ignored("calls are read in their order")


_NAME = "the model's template has no place for names of speakers"


class SystemMessage(Body):
    """What the assistant is told beforehand."""

    role: Literal["system"] = supported("who speaks", ...)
    content: str | list[Content] = supported("the text, never read as control tokens", ...)
    name: str | None = ignored(_NAME)


class DeveloperMessage(Body):
    """The newer name of a system message."""

    role: Literal["developer"] = supported("the same as system", ...)
    content: str | list[Content] = supported("the text, never read as control tokens", ...)
    name: str | None = ignored(_NAME)


class UserMessage(Body):
    """What a person says."""

    role: Literal["user"] = supported("who speaks", ...)
    content: str | list[Content] = supported("text, images and videos in their order", ...)
    name: str | None = ignored(_NAME)


class AssistantMessage(Body):
    """What the model said before."""

    role: Literal["assistant"] = supported("who speaks", ...)
    content: str | list[Content] | None = supported("the answer")
    reasoning_content: str | None = supported("the reasoning, which the model's template may keep")
    reasoning: str | None = supported("the same as reasoning_content; where both are given they must agree")
    tool_calls: list[FunctionToolCall] | None = supported("the calls of this turn")
    refusal: str | None = supported("text of the assistant like any other, behind the content")
    name: str | None = ignored(_NAME)
    audio: Unread | None = rejected(_SILENT)
    function_call: Unread | None = rejected("it was replaced by tool_calls")
    annotations: list[Any] | None = ignored("what an answer pointed to is not read again", neutral=([],))


class ToolMessage(Body):
    """What a tool answered."""

    role: Literal["tool"] = supported("who speaks", ...)
    content: str | list[Content] = supported("the answer, never read as control tokens", ...)
    tool_call_id: str | None = supported("the call it answers; results are put in the order of their calls")
    name: str | None = ignored("the call says which tool it was")


class FunctionMessage(Body):
    """The older form of a tool message."""

    role: Literal["function"] = rejected("it was replaced by the role tool", ...)
    content: str | None = rejected("the role function was replaced by tool", ...)
    name: str = rejected("the role function was replaced by tool", ...)


ChatMessage = Annotated[
    SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage | FunctionMessage,
    Field(discriminator="role"),
]


class FunctionDefinition(Body):
    """A function the model may call."""

    name: str = supported("the function's name", ..., min_length=1, max_length=256)
    description: str | None = supported("shown to the model")
    parameters: dict[str, Any] | None = supported("JSON schema of the arguments", examples=[{"type": "object"}])
    strict: bool | None = supported("whether the arguments must satisfy the schema")


class FunctionTool(Body):
    """A tool that is a function."""

    type: Literal["function"] = supported("functions only", ...)
    function: FunctionDefinition = supported("the function", ...)


class CustomTool(Body):
    """A tool that takes free text."""

    type: Literal["custom"] = rejected("tools are functions with JSON arguments", ...)
    custom: Unread = rejected("tools are functions with JSON arguments", ...)


class NamedFunction(Body):
    """A function of the request."""

    name: str = supported("the function's name", ...)


class NamedFunctionTool(Body):
    """One tool."""

    type: Literal["function"] = supported("functions only", ...)
    function: NamedFunction = supported("the function", ...)


class AllowedTools(Body):
    """Some of the tools."""

    mode: Literal["auto", "required"] = supported("whether one of them must be called", ...)
    tools: list[NamedFunctionTool] = supported("the others are not shown to the model", ...)


class AllowedToolsChoice(Body):
    """A choice among some of the tools."""

    type: Literal["allowed_tools"] = supported("what kind of choice this is", ...)
    allowed_tools: AllowedTools = supported("the choice", ...)


class TextFormat(Body):
    """Any text."""

    type: Literal["text"] = supported("any text", ...)


class JsonObjectFormat(Body):
    """Any JSON object."""

    type: Literal["json_object"] = supported("the answer is a JSON object", ...)


class NamedSchema(Body):
    """A JSON schema with a name."""

    name: str = ignored("the schema says all that the answer must satisfy", ..., max_length=256)
    description: str | None = ignored("the schema says all that the answer must satisfy")
    schema_: dict[str, Any] | None = supported("what the answer satisfies", alias="schema", examples=[{"type": "null"}])
    strict: bool | None = ignored("the answer satisfies the schema in any case")


class JsonSchemaFormat(Body):
    """JSON that a schema accepts."""

    type: Literal["json_schema"] = supported("the answer is JSON that the schema accepts", ...)
    json_schema: NamedSchema = supported("the schema", ...)


ResponseFormat = Annotated[TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")]


class StructuredOutputs(Body):
    """One constraint on the answer (beyond the dialect)."""

    json_: dict[str, Any] | str | None = supported("a JSON schema", alias="json", examples=[{"type": "null"}])
    regex: str | None = supported("the whole answer matches it", examples=["[0-9]+"])
    choice: list[str] | None = supported("the answer is one of these", examples=[["yes", "no"]])
    grammar: str | None = supported("the answer is a sentence of it, in Lark's notation", examples=['start: "a"'])
    json_object: bool | None = supported("the answer is a JSON object")


class StreamOptions(Body):
    """What a stream tells besides the answer."""

    include_usage: bool | None = supported("counts of tokens in a last event")
    include_obfuscation: bool | None = rejected("events are not padded", neutral=(False,), examples=[True])


class SamplingFields(Body):
    """What chats and completions have in common."""

    model: str = supported("which of the served models answers", ..., min_length=1)
    frequency_penalty: Number | None = supported("subtracted per occurrence of a generated token", ge=-10, le=10)
    presence_penalty: Number | None = supported("subtracted once from every token already generated", ge=-10, le=10)
    logit_bias: dict[str, Number] | None = supported(
        "added to the logit of a token, by its id", max_length=1024, examples=[{"5": 1.5}]
    )
    max_tokens: int | None = supported("most tokens to write", ge=1, le=2**31)
    n: int | None = supported("number of answers; answer i has the seed plus i", ge=1, le=MAX_CHOICES)
    seed: int | None = supported("seed of the sampling noise: same request, same answer", ge=-(2**63), le=2**64 - 1)
    stop: str | Annotated[list[str], Field(max_length=64)] | None = supported(
        "the answer ends before any of these", examples=[["###"]]
    )
    stream: bool | None = supported("whether the answer comes in events")
    stream_options: StreamOptions | None = supported("what a stream tells besides")
    temperature: Number | None = supported("0 picks the likeliest token", ge=0, le=100)
    top_p: Number | None = supported("sample among the likeliest tokens that sum to p", gt=0, le=1)
    user: str | None = supported("users of one key share the machine evenly", max_length=512)
    top_k: int | None = supported("sample among the k likeliest tokens (beyond the dialect)", ge=0)
    min_p: Number | None = supported("drop tokens less likely than this share of the likeliest (beyond)", ge=0, le=1)
    repetition_penalty: Number | None = supported("divides the logit of generated tokens (beyond)", gt=0, le=10)
    min_tokens: int | None = supported("fewest tokens before an end token (beyond the dialect)", ge=0)
    stop_token_ids: list[int] | None = supported(
        "further ids that end the answer (beyond)", max_length=64, examples=[[7]]
    )
    ignore_eos: bool | None = supported("write past the end tokens (beyond the dialect)")
    priority: int | None = supported("the lowest number is served first (beyond the dialect)", ge=-100, le=100)
    structured_outputs: StructuredOutputs | None = supported("a constraint on the answer (beyond the dialect)")


class ChatBody(SamplingFields, ThinkingFields):
    """A conversation to be continued."""

    messages: list[ChatMessage] = supported("the conversation", ..., min_length=1)
    audio: Unread | None = rejected(_SILENT)
    function_call: Any = rejected(_TOOLS_NOW)
    functions: list[Any] | None = rejected(_TOOLS_NOW)
    logprobs: bool | None = supported("log probabilities of all tokens that are written, reasoning included")
    top_logprobs: int | None = supported("and of so many alternatives; needs logprobs", ge=0, le=20)
    max_completion_tokens: int | None = supported("most tokens to write, reasoning included", ge=1, le=2**31)
    metadata: dict[str, str] | None = ignored(_UNSTORED, neutral=({},))
    modalities: list[Literal["text", "audio"]] | None = rejected(_SILENT, neutral=(["text"],), examples=[["audio"]])
    parallel_tool_calls: bool | None = supported("whether a turn may make several calls")
    prediction: Unread | None = ignored("what comes is guessed without it; no answer depends on guesses")
    prompt_cache_key: str | None = ignored(_BEGINNINGS)
    prompt_cache_retention: str | None = ignored(_BEGINNINGS)
    response_format: ResponseFormat | None = supported("what form the answer has")
    safety_identifier: str | None = supported("the same as user, and before it", max_length=512)
    service_tier: Literal["auto", "default", "flex", "scale", "priority"] | None = supported(
        "priority is served before others and flex after them; the answer says which it was"
    )
    store: bool | None = rejected("chats are not stored; responses are", neutral=(False,), examples=[True])
    tool_choice: Literal["none", "auto", "required"] | NamedFunctionTool | AllowedToolsChoice | None = supported(
        "whether and which tools must be called"
    )
    tools: list[Annotated[FunctionTool | CustomTool, Field(discriminator="type")]] | None = supported(
        "what the model may call", max_length=_MAX_TOOLS
    )
    verbosity: Literal["low", "medium", "high"] | None = rejected(
        "the model has no such switch; the system message can say it", neutral=("medium",), examples=["low"]
    )
    web_search_options: Unread | None = rejected("the server does not search")
    continue_final_message: bool | None = supported("go on with the assistant's last message (beyond the dialect)")
    add_generation_prompt: bool | None = rejected("a reply is what is asked for", neutral=(True,), examples=[False])
    replay: Literal["exact", "template"] | None = supported(
        "earlier answers are read as the tokens that were written, or as the template renders them (beyond)"
    )


class CompletionBody(SamplingFields):
    """Prompts to be continued as they are, without a chat template."""

    prompt: Prompts = supported(
        "texts or token ids; names of control tokens in a text stand for them", ..., examples=["a"]
    )
    best_of: int | None = rejected("answers are not ranked", neutral=(1,), ge=0, examples=[3])
    echo: bool | None = supported("put the prompt before the answer; with logprobs, its own as well")
    logprobs: int | None = supported("log probabilities of the tokens and of so many alternatives", ge=0, le=20)
    max_tokens: int | None = supported("most tokens to write; 0 only with echo; absent: 16", ge=0, le=2**31)
    suffix: str | None = rejected("this family does not fill in the middle", neutral=("",))


class EmbeddingBody(Body):
    """Texts to be turned into vectors."""

    model: str = supported("which of the served models reads", ..., min_length=1)
    input: Prompts = supported("texts or token ids", ..., examples=["a"])
    encoding_format: Literal["float", "base64"] | None = supported("numbers, or their bytes as little-endian float32")
    dimensions: int | None = supported("keep so many numbers of each vector, scaled to length 1 again", ge=1)
    user: str | None = ignored("embeddings are computed in the order of arrival")
    pooling: Literal["mean", "last"] | None = supported("of the rows of a text (beyond the dialect)")
