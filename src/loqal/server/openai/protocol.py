"""The request bodies of OpenAI's chat completions, completions and embeddings."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from loqal.runtime.runtime import MAX_CHOICES
from loqal.server.shared.body import Body
from loqal.server.shared.fields import Unread, ignored, rejected, sampled, supported
from loqal.server.shared.thinking import ThinkingFields
from loqal.types.sampling import MAX_BIASES

_MAX_TOOLS = 128
_MAX_PROMPTS = 2048
_MAX_INT = 2**31  # counts above it are mistakes
_MAX_TOP = 20  # OpenAI's own limit of top_logprobs
_NO_AUDIO = "the model has no audio output"
_USE_TOOLS = "use tools and tool_choice, which replaced it"
_NOT_STORED = "chat completions are not stored"
_PREFIX_CACHE = "the prefix cache matches prompts by their tokens, without a key"
_TYPE = "the type of this object"
_ROLE = "the role of the message"
_LITERAL_TEXT = "the text; names of control tokens in it are plain text"

Number = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=_MAX_INT)]
TokenIds = Annotated[list[int], Field(min_length=1)]
Prompts = str | TokenIds | Annotated[list[str | TokenIds], Field(min_length=1, max_length=_MAX_PROMPTS)]


class TextContent(Body):
    """A text part."""

    type: Literal["text"] = supported(_TYPE, ...)
    text: str = supported(_LITERAL_TEXT, ...)


class RefusalContent(Body):
    """A refusal of an earlier assistant message."""

    type: Literal["refusal"] = supported(_TYPE, ...)
    refusal: str = supported("read as text of the assistant", ...)


class ImageUrl(Body):
    """The URL of an image."""

    url: str = supported("a data: URL, or an http(s) URL if the server allows it", ...)
    detail: Literal["auto", "low", "high"] | None = supported("low limits the image to 256 tokens")
    min_tokens: Count | None = supported("minimum number of tokens of the image (extension)")
    max_tokens: Count | None = supported("maximum number of tokens of the image (extension)")


class ImageContent(Body):
    """An image part."""

    type: Literal["image_url"] = supported(_TYPE, ...)
    image_url: ImageUrl | str = supported("the image", ...)


class VideoUrl(Body):
    """The URL of a video."""

    url: str = supported("a data: URL, or an http(s) URL if the server allows it", ...)
    fps: Annotated[float, Field(gt=0, le=240)] | None = supported("frames sampled per second")
    max_frames: Annotated[int, Field(ge=1, le=100_000)] | None = supported("maximum number of sampled frames")
    max_tokens: Count | None = supported("maximum number of tokens of the video")


class VideoContent(Body):
    """A video part (extension)."""

    type: Literal["video_url"] = supported(_TYPE, ...)
    video_url: VideoUrl | str = supported("the video", ...)


class AudioContent(Body):
    """An audio part."""

    type: Literal["input_audio"] = rejected("the model has no audio input", ...)
    input_audio: Unread = rejected("the model has no audio input", ...)


class FileContent(Body):
    """A file part."""

    type: Literal["file"] = rejected("the model reads text, images and videos; convert the file to one of these", ...)
    file: Unread = rejected("the model reads text, images and videos; convert the file to one of these", ...)


Content = Annotated[
    TextContent | RefusalContent | ImageContent | VideoContent | AudioContent | FileContent, Field(discriminator="type")
]


class FunctionCall(Body):
    """The function of a tool call."""

    name: str = supported("the name of the function", ...)
    arguments: str | dict[str, Any] | None = supported(
        "the arguments, a JSON object in a string", examples=['{"a": 1}']
    )


class FunctionToolCall(Body):
    """A tool call of an earlier assistant message."""

    id: str | None = supported("the id that its tool message refers to")
    type: Literal["function"] | None = supported(_TYPE, examples=["function"])
    function: FunctionCall = supported("the function and its arguments", ...)
    index: int | None = ignored("tool calls are read in their order in the list")


_NAME = "the model's chat template has no names of participants"


class SystemMessage(Body):
    """A system message."""

    role: Literal["system"] = supported(_ROLE, ...)
    content: str | list[Content] = supported(_LITERAL_TEXT, ...)
    name: str | None = ignored(_NAME)


class DeveloperMessage(Body):
    """A developer message, the newer name of a system message."""

    role: Literal["developer"] = supported("the role of the message; the same as system", ...)
    content: str | list[Content] = supported(_LITERAL_TEXT, ...)
    name: str | None = ignored(_NAME)


class UserMessage(Body):
    """A user message."""

    role: Literal["user"] = supported(_ROLE, ...)
    content: str | list[Content] = supported("text, images and videos, in their order", ...)
    name: str | None = ignored(_NAME)


class AssistantMessage(Body):
    """An earlier assistant message."""

    role: Literal["assistant"] = supported(_ROLE, ...)
    content: str | list[Content] | None = supported("the text of the message")
    reasoning_content: str | None = supported("the reasoning, which the chat template may keep in the prompt")
    reasoning: str | None = supported("the same as reasoning_content; if both are sent they must be equal")
    tool_calls: list[FunctionToolCall] | None = supported("the tool calls of the message")
    refusal: str | None = supported("read as text of the assistant, after the content")
    name: str | None = ignored(_NAME)
    audio: Unread | None = rejected(_NO_AUDIO)
    function_call: Unread | None = rejected("use tool_calls, which replaced it")
    annotations: list[Any] | None = ignored("the model reads the text without its annotations", neutral=([],))


class ToolMessage(Body):
    """A tool result."""

    role: Literal["tool"] = supported(_ROLE, ...)
    content: str | list[Content] | None = supported("the result; names of control tokens in it are plain text")
    tool_call_id: str | None = supported("the tool call of this result; results are read in the order of the calls")
    name: str | None = supported("finds the tool call of a result without a known id")


class FunctionMessage(Body):
    """The result of a function call, the older form of a tool message."""

    role: Literal["function"] = rejected("use the role tool, which replaced it", ...)
    content: str | None = rejected("use the role tool, which replaced the role function", ...)
    name: str = rejected("use the role tool, which replaced the role function", ...)


ChatMessage = Annotated[
    SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage | FunctionMessage,
    Field(discriminator="role"),
]


class FunctionDefinition(Body):
    """The definition of a function that the model may call."""

    name: str = supported("the name of the function", ..., min_length=1, max_length=256)
    description: str | None = supported("the description that the model reads")
    parameters: dict[str, Any] | None = supported("the JSON schema of the arguments", examples=[{"type": "object"}])
    strict: bool | None = supported(
        "true rejects a schema that cannot be enforced completely, false does not enforce it"
    )


class FunctionTool(Body):
    """A function tool."""

    type: Literal["function"] = supported(_TYPE, ...)
    function: FunctionDefinition = supported("the definition of the function", ...)


class CustomTool(Body):
    """A tool with free-form text input."""

    type: Literal["custom"] = rejected("the model calls functions with JSON arguments only", ...)
    custom: Unread = rejected("the model calls functions with JSON arguments only", ...)


class NamedFunction(Body):
    """The name of a function."""

    name: str = supported("the name of the function", ...)


class NamedFunctionTool(Body):
    """One tool of the request."""

    type: Literal["function"] = supported(_TYPE, ...)
    function: NamedFunction = supported("the function", ...)


class AllowedTools(Body):
    """A subset of the tools."""

    mode: Literal["auto", "required"] = supported("whether one of these tools must be called", ...)
    tools: list[NamedFunctionTool] = supported("the allowed tools; the model does not see the others", ...)


class AllowedToolsChoice(Body):
    """A tool choice limited to a subset of the tools."""

    type: Literal["allowed_tools"] = supported(_TYPE, ...)
    allowed_tools: AllowedTools = supported("the allowed tools and the mode", ...)


class TextFormat(Body):
    """Text output."""

    type: Literal["text"] = supported("unconstrained text", ...)


class JsonObjectFormat(Body):
    """JSON output."""

    type: Literal["json_object"] = supported("the output is constrained to a JSON object", ...)
    schema_: dict[str, Any] | None = supported(
        "the JSON schema of the object (extension)", alias="schema", examples=[{"type": "object"}]
    )


class NamedSchema(Body):
    """A named JSON schema."""

    name: str | None = ignored("the output depends on the schema alone", max_length=256)
    description: str | None = ignored("the output depends on the schema alone")
    schema_: dict[str, Any] | None = supported("the JSON schema", alias="schema", examples=[{"type": "null"}])
    strict: bool | None = supported("whether a schema that cannot be enforced completely is rejected")


class JsonSchemaFormat(Body):
    """JSON output that satisfies a schema."""

    type: Literal["json_schema"] = supported("the output is constrained to a JSON schema", ...)
    json_schema: NamedSchema = supported("the schema", ...)


ResponseFormat = Annotated[TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")]


class StructuredOutputs(Body):
    """One constraint on the output (extension, as in vLLM)."""

    json_: dict[str, Any] | str | None = supported("a JSON schema", alias="json", examples=[{"type": "null"}])
    regex: str | None = supported("a regular expression that matches the whole output", examples=["[0-9]+"])
    choice: list[str] | None = supported("the allowed outputs", examples=[["yes", "no"]])
    grammar: str | None = supported("a context-free grammar in Lark's syntax or in GBNF", examples=['start: "a"'])
    json_object: bool | None = supported("whether the output is a JSON object")


class StreamOptions(Body):
    """Options of streaming."""

    include_usage: bool | None = supported("send a last event with token counts")
    include_obfuscation: bool | None = rejected("events are not padded", neutral=(False,), examples=[True])


class SamplingFields(Body):
    """The fields that chat completions and completions have in common."""

    model: str = supported("the name of a served model", ..., min_length=1)
    frequency_penalty: Number | None = sampled(
        "frequency_penalty", "subtracted from a token's logit for each time it was generated"
    )
    presence_penalty: Number | None = sampled(
        "presence_penalty", "subtracted once from the logit of every generated token"
    )
    logit_bias: dict[str, Number] | None = supported(
        "added to the logits of tokens, by token id", max_length=MAX_BIASES, examples=[{"5": 1.5}]
    )
    max_tokens: int | None = sampled("max_tokens", "maximum number of tokens to generate", le=_MAX_INT)
    n: int | None = supported("number of choices; choice i has the seed plus i", ge=1, le=MAX_CHOICES)
    seed: int | None = sampled("seed", "sampling seed; the same request with the same seed has the same reply")
    stop: str | Annotated[list[str], Field(max_length=64)] | None = supported(
        "stop strings; the reply ends before the first of them", examples=[["###"]]
    )
    stream: bool | None = supported("whether to stream the reply")
    stream_options: StreamOptions | None = supported("options of streaming")
    temperature: Number | None = sampled("temperature", "sampling temperature; 0 selects the most likely token")
    top_p: Number | None = sampled("top_p", "nucleus sampling: cumulative probability of the tokens to sample from")
    user: str | None = supported("the end user; users of one API key get equal shares of the machine", max_length=512)
    top_k: int | None = sampled("top_k", "sample from the k most likely tokens; 0 disables (extension)")
    min_p: Number | None = sampled(
        "min_p", "minimum probability of a token, relative to the most likely one (extension)"
    )
    repetition_penalty: Number | None = sampled(
        "repetition_penalty", "divides the logits of generated tokens; 1 disables (extension)"
    )
    min_tokens: int | None = sampled("min_tokens", "minimum number of tokens before an end token (extension)")
    stop_token_ids: list[int] | None = supported(
        "additional token ids that end the reply (extension)", max_length=64, examples=[[7]]
    )
    ignore_eos: bool | None = supported("whether to continue after end tokens (extension)")
    priority: int | None = supported("the lowest number is served first (extension)", ge=-100, le=100)
    structured_outputs: StructuredOutputs | None = supported("a constraint on the output (extension)")
    guided_json: dict[str, Any] | str | None = supported("the same as structured_outputs.json", examples=[{}])
    guided_regex: str | None = supported("the same as structured_outputs.regex", examples=["a+"])
    guided_choice: list[str] | None = supported("the same as structured_outputs.choice", examples=[["a", "b"]])
    guided_grammar: str | None = supported("the same as structured_outputs.grammar", examples=['root ::= "a"'])
    regex: str | None = supported("the same as structured_outputs.regex", examples=["a+"])
    grammar: str | None = supported("the same as structured_outputs.grammar", examples=['root ::= "a"'])
    ebnf: str | None = supported("the same as structured_outputs.grammar", examples=['root ::= "a"'])
    json_schema: dict[str, Any] | str | None = supported("the same as structured_outputs.json", examples=[{}])


class ChatBody(SamplingFields, ThinkingFields):
    """The body of POST /v1/chat/completions."""

    messages: list[ChatMessage] = supported("the conversation", ..., min_length=1)
    audio: Unread | None = rejected(_NO_AUDIO)
    function_call: Any = rejected(_USE_TOOLS)
    functions: list[Any] | None = rejected(_USE_TOOLS)
    logprobs: bool | None = supported("return the log probabilities of all generated tokens, reasoning included")
    top_logprobs: int | None = sampled(
        "logprobs", "number of most likely tokens to return at each position, up to 20; requires logprobs", le=_MAX_TOP
    )
    max_completion_tokens: int | None = sampled(
        "max_tokens", "maximum number of tokens to generate, reasoning included", le=_MAX_INT
    )
    metadata: dict[str, str] | None = ignored(_NOT_STORED, neutral=({},))
    modalities: list[Literal["text", "audio"]] | None = rejected(_NO_AUDIO, neutral=(["text"],), examples=[["audio"]])
    parallel_tool_calls: bool | None = supported("whether a message may have several tool calls")
    prediction: Unread | None = ignored("speculative decoding needs no predicted output and never changes the reply")
    prompt_cache_key: str | None = ignored(_PREFIX_CACHE)
    prompt_cache_retention: str | None = ignored(_PREFIX_CACHE)
    response_format: ResponseFormat | None = supported("the format of the output")
    safety_identifier: str | None = supported("the same as user, which it overrides", max_length=512)
    service_tier: Literal["auto", "default", "flex", "scale", "priority"] | None = supported(
        "priority is served before other requests, flex after them; the response has the tier that was used"
    )
    store: bool | None = rejected(f"{_NOT_STORED}; use the Responses API", neutral=(False,), examples=[True])
    tool_choice: Literal["none", "auto", "required"] | NamedFunctionTool | AllowedToolsChoice | None = supported(
        "whether tools are called, and which"
    )
    tools: list[Annotated[FunctionTool | CustomTool, Field(discriminator="type")]] | None = supported(
        "the functions that the model may call", max_length=_MAX_TOOLS
    )
    verbosity: Literal["low", "medium", "high"] | None = rejected(
        "the model has no verbosity setting; put it into the system message", neutral=("medium",), examples=["low"]
    )
    web_search_options: Unread | None = rejected("the server has no web search")
    continue_final_message: bool | None = supported("continue the last assistant message (extension)")
    add_generation_prompt: bool | None = rejected(
        "the prompt always ends with the beginning of a reply", neutral=(True,), examples=[False]
    )
    replay: Literal["exact", "template"] | None = supported(
        "read earlier replies as their generated tokens, or as the chat template renders them (extension)"
    )


class CompletionBody(SamplingFields):
    """The body of POST /v1/completions."""

    prompt: Prompts = supported(
        "texts or token ids; names of control tokens in a text become these tokens", ..., examples=["a"]
    )
    best_of: int | None = rejected("replies are not ranked; use n", neutral=(1,), ge=0, examples=[3])
    echo: bool | None = supported("return the prompt before its completion, with log probabilities if requested")
    logprobs: int | None = sampled(
        "logprobs", "return log probabilities, and up to 20 most likely tokens at each position", le=_MAX_TOP
    )
    max_tokens: int | None = supported(
        "maximum number of tokens to generate, by default 16; 0 is allowed with echo", ge=0, le=_MAX_INT
    )
    suffix: str | None = rejected("the model does not support fill-in-the-middle", neutral=("",))


class EmbeddingBody(Body):
    """The body of POST /v1/embeddings."""

    model: str = supported("the name of a served model", ..., min_length=1)
    input: Prompts = supported("texts or token ids", ..., examples=["a"])
    encoding_format: Literal["float", "base64"] | None = supported("float, or base64 of little-endian float32")
    dimensions: int | None = supported("number of dimensions to keep; vectors are normalized again", ge=1)
    user: str | None = ignored("embedding requests are served in the order of arrival")
    pooling: Literal["mean", "last"] | None = supported("mean or last token of the final hidden states (extension)")
