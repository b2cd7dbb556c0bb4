"""The request bodies of the Ollama API."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from loqal.server.shared.body import Body
from loqal.server.shared.fields import ignored, rejected, sampled, supported

_AT_START = "a setting of the server, which does not change replies"
_OTHER_SAMPLER = "the sampler has temperature, top_k, top_p and min_p"
_TEXT_ONLY = "the model generates text, not images"
_ROLE = "the role of the message"
_TYPE = "the type of this object"
_TOO_LONG = "input that exceeds the context is rejected with an error"


class Options(Body):
    """Sampling parameters and runtime options."""

    seed: int | None = sampled("seed", "sampling seed")
    num_predict: int | None = supported(
        "maximum number of tokens to generate; -1 and -2 are limited by the context only", ge=-2
    )
    num_ctx: int | None = supported("context length of this request in tokens, at most that of the loaded model", ge=1)
    temperature: float | None = sampled("temperature", "sampling temperature; 0 selects the most likely token")
    top_k: int | None = sampled("top_k", "sample from the k most likely tokens; 0 disables")
    top_p: float | None = sampled("top_p", "nucleus sampling: cumulative probability of the tokens to sample from")
    min_p: float | None = sampled("min_p", "minimum probability of a token, relative to the most likely one")
    repeat_penalty: float | None = sampled("repetition_penalty", "divides the logits of generated tokens; 1 disables")
    presence_penalty: float | None = sampled(
        "presence_penalty", "subtracted once from the logit of every generated token"
    )
    frequency_penalty: float | None = sampled(
        "frequency_penalty", "subtracted from a token's logit for each time it was generated"
    )
    stop: list[str] | None = supported("stop strings; the reply ends before the first of them", examples=[["###"]])
    repeat_last_n: int | None = rejected("penalties apply to all generated tokens", neutral=(-1,), ge=-1, examples=[64])
    typical_p: float | None = rejected(_OTHER_SAMPLER, neutral=(1.0,), examples=[0.5])
    tfs_z: float | None = rejected(_OTHER_SAMPLER, neutral=(1.0,), examples=[0.5])
    mirostat: int | None = rejected(_OTHER_SAMPLER, neutral=(0,))
    mirostat_tau: float | None = ignored("it has no effect without mirostat")
    mirostat_eta: float | None = ignored("it has no effect without mirostat")
    penalize_newline: bool | None = rejected(
        "penalties apply to all tokens, line breaks included", neutral=(True,), examples=[False]
    )
    num_keep: int | None = ignored("the context is never shifted; input that exceeds it is rejected")
    num_batch: int | None = ignored(_AT_START)
    num_gpu: int | None = ignored(_AT_START)
    main_gpu: int | None = ignored(_AT_START)
    num_thread: int | None = ignored(_AT_START)
    numa: bool | None = ignored(_AT_START)
    low_vram: bool | None = ignored(_AT_START)
    use_mmap: bool | None = ignored(_AT_START)
    use_mlock: bool | None = ignored(_AT_START)
    f16_kv: bool | None = ignored("the precision of the KV cache is a setting of the server")
    logits_all: bool | None = ignored("logits are computed only where they are needed")
    vocab_only: bool | None = rejected("models are always loaded completely", neutral=(False,))
    embedding_only: bool | None = rejected("models are always loaded completely", neutral=(False,))
    draft_num_predict: int | None = ignored(
        "the number of draft tokens is chosen in each step and does not change replies"
    )


class CalledFunction(Body):
    """The function of a tool call."""

    index: int | None = ignored("tool calls are read in their order in the list")
    name: str = supported("the name of the function", ...)
    arguments: dict[str, Any] = supported("the arguments, in their order", ..., examples=[{"a": 1}])
    description: str | None = ignored("the model reads the description in the definition of the tool")


class ToolCall(Body):
    """A tool call of an earlier message."""

    id: str | None = supported("the id that its tool message refers to")
    type: Literal["function"] | None = supported(_TYPE, examples=["function"])
    function: CalledFunction = supported("the function and its arguments", ...)


_NO_CALLS: Any = rejected("only assistant messages have tool calls", neutral=([],))
_NO_THINKING: Any = rejected("only assistant messages have reasoning", neutral=("",))
_NO_IMAGES: Any = rejected("only user and tool messages have images", neutral=([],))
_NO_RESULT: Any = rejected("only tool messages have results", neutral=("",))
_IMAGES: Any = supported("images in base64, which come before the text", examples=[["iVBORw0KGgo="]])


class SystemMessage(Body):
    """A system message."""

    role: Literal["system"] = supported(_ROLE, ...)
    content: str | None = supported("the text; names of control tokens in it are plain text")
    images: list[str] | None = _NO_IMAGES
    thinking: str | None = _NO_THINKING
    tool_calls: list[ToolCall] | None = _NO_CALLS
    tool_name: str | None = _NO_RESULT
    tool_call_id: str | None = _NO_RESULT


class UserMessage(SystemMessage):
    """A user message."""

    role: Literal["user"] = supported(_ROLE, ...)  # type: ignore[assignment]
    images: list[str] | None = _IMAGES


class AssistantMessage(SystemMessage):
    """An assistant message; the last message of the request is continued."""

    role: Literal["assistant"] = supported(_ROLE, ...)  # type: ignore[assignment]
    thinking: str | None = supported("the reasoning, which the chat template may keep in the prompt")
    tool_calls: list[ToolCall] | None = supported("the tool calls of the message")


class ToolMessage(SystemMessage):
    """A tool result."""

    role: Literal["tool"] = supported(_ROLE, ...)  # type: ignore[assignment]
    images: list[str] | None = _IMAGES
    tool_name: str | None = supported("the name of the tool, for a result without tool_call_id")
    tool_call_id: str | None = supported("the tool call of this result; results are read in the order of the calls")


Message = Annotated[SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")]


class Function(Body):
    """The definition of a function that the model may call."""

    name: str = supported("the name of the function", ..., min_length=1)
    description: str | None = supported("the description that the model reads")
    parameters: dict[str, Any] | None = supported("the JSON schema of the arguments", examples=[{"type": "object"}])
    strict: bool | None = supported(
        "true rejects a schema that cannot be enforced completely, false does not enforce it"
    )


class Tool(Body):
    """A function tool."""

    type: Literal["function"] | None = supported(_TYPE, examples=["function"])
    function: Function = supported("the definition of the function", ...)


class ModelBody(Body):
    """The fields of requests that use one model."""

    model: str = supported("the name of a served model", ..., min_length=1)
    keep_alive: float | int | str | None = ignored(
        "idle models are unloaded after the server's --unload-after-s; 0 without a prompt unloads a model"
    )


class GenerationBody(ModelBody):
    """The fields of requests that generate text."""

    stream: bool = supported("whether to stream the reply; true by default", True, examples=[False])
    format: str | dict[str, Any] | None = supported(
        "json for a JSON object, or a JSON schema for the output", examples=["json"]
    )
    options: Options | None = supported("see its fields")
    think: bool | Literal["low", "medium", "high", "max"] | None = supported(
        "whether to think, or a reasoning effort; by default as the chat template does"
    )
    logprobs: bool | None = supported("return the log probabilities of the generated tokens")
    top_logprobs: int | None = sampled(
        "logprobs", "number of most likely tokens to return at each position, up to 20 as in Ollama's API", le=20
    )
    truncate: bool | None = rejected(_TOO_LONG, neutral=(False,))
    shift: bool | None = rejected("a reply ends when the context is full", neutral=(False,))


class OllamaChatBody(GenerationBody):
    """The body of POST /api/chat."""

    messages: list[Message] = supported(
        "the conversation; an empty one loads the model, or unloads it with keep_alive 0", []
    )
    tools: list[Tool] | None = supported("the tools that the model may call")


class OllamaGenerateBody(GenerationBody):
    """The body of POST /api/generate."""

    prompt: str = supported("the user message; with raw, the whole prompt", "")
    system: str | None = supported("the system message")
    images: list[str] | None = supported("images in base64, which come before the prompt", examples=[["iVBORw0KGgo="]])
    raw: bool = supported("whether the prompt is used without the chat template", False)
    context: list[int] | None = supported("the tokens of the conversation, as returned by the previous response")
    suffix: str | None = rejected("the model does not support fill-in-the-middle", neutral=("",))
    template: str | None = rejected(
        "the model's own chat template is used; for another one send a raw prompt", neutral=("",)
    )
    width: int | None = rejected(_TEXT_ONLY)
    height: int | None = rejected(_TEXT_ONLY)
    steps: int | None = rejected(_TEXT_ONLY)


class OllamaEmbedBody(ModelBody):
    """The body of POST /api/embed."""

    input: str | list[str] = supported("the texts to embed", ...)
    truncate: bool | None = rejected(_TOO_LONG, neutral=(False,))
    dimensions: int | None = supported("number of dimensions to keep; vectors are normalized again", ge=1)
    options: Options | None = supported("num_ctx limits each text; other options have no effect")


class OllamaEmbeddingsBody(ModelBody):
    """The body of POST /api/embeddings, the older form of /api/embed."""

    prompt: str = supported("the text to embed", ...)
    options: Options | None = supported("see /api/embed")


class OllamaShowBody(Body):
    """The body of POST /api/show."""

    model: str = supported("the name of a served model", ..., min_length=1)
    verbose: bool | None = ignored("the response always has all details")
