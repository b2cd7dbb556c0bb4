"""The requests of Ollama's API, field by field."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from loqal.server.shared.fields import ignored, rejected, supported
from loqal.server.shared.generation_request import Body

_AT_START = "memory, threads and devices are settled when the server starts; no answer depends on them"
_OTHER_SAMPLER = "sampling has temperature, top_k, top_p and min_p"
_WRITES = "the model writes text"


class Options(Body):
    """How tokens are chosen, and how the model is run."""

    seed: int | None = supported("seed of the sampling noise")
    num_predict: int | None = supported("most tokens to write; -1 and -2: as the context allows", ge=-2)
    num_ctx: int | None = supported("most tokens of prompt and reply together, within the server's own limit", ge=1)
    temperature: float | None = supported("0 picks the likeliest token", ge=0)
    top_k: int | None = supported("sample among the k likeliest tokens; 0 switches it off", ge=0)
    top_p: float | None = supported("sample among the likeliest tokens that sum to p", gt=0, le=1)
    min_p: float | None = supported("drop tokens less likely than this share of the likeliest", ge=0, le=1)
    repeat_penalty: float | None = supported("divides the logit of every generated token; 1 is off", gt=0)
    presence_penalty: float | None = supported("subtracted once from every token already generated")
    frequency_penalty: float | None = supported("subtracted per occurrence of a generated token")
    stop: list[str] | None = supported("the answer ends before any of these", examples=[["###"]])
    repeat_last_n: int | None = rejected("penalties look at all generated tokens", neutral=(-1,), ge=-1, examples=[64])
    typical_p: float | None = rejected(_OTHER_SAMPLER, neutral=(1.0,), examples=[0.5])
    tfs_z: float | None = rejected(_OTHER_SAMPLER, neutral=(1.0,), examples=[0.5])
    mirostat: int | None = rejected(_OTHER_SAMPLER, neutral=(0,))
    mirostat_tau: float | None = ignored("nothing depends on it without mirostat")
    mirostat_eta: float | None = ignored("nothing depends on it without mirostat")
    penalize_newline: bool | None = rejected("penalties treat all tokens alike", neutral=(True,), examples=[False])
    num_keep: int | None = ignored("a conversation is never shifted: it fits, or it is rejected")
    num_batch: int | None = ignored(_AT_START)
    num_gpu: int | None = ignored(_AT_START)
    main_gpu: int | None = ignored(_AT_START)
    num_thread: int | None = ignored(_AT_START)
    numa: bool | None = ignored(_AT_START)
    low_vram: bool | None = ignored(_AT_START)
    use_mmap: bool | None = ignored(_AT_START)
    use_mlock: bool | None = ignored(_AT_START)
    f16_kv: bool | None = ignored("how keys and values are stored is settled when the server starts")
    logits_all: bool | None = ignored("logits are computed where they are needed")
    vocab_only: bool | None = rejected("a model is served whole", neutral=(False,))
    embedding_only: bool | None = rejected("a model is served whole", neutral=(False,))
    draft_num_predict: int | None = ignored("how far to guess ahead is decided step by step; no answer depends on it")


class CalledFunction(Body):
    """A call's function."""

    index: int | None = ignored("calls are read in their order")
    name: str = supported("the tool that was called", ...)
    arguments: dict[str, Any] = supported("the arguments, in their order", ..., examples=[{"a": 1}])
    description: str | None = ignored("the tool's own definition is what the model sees")


class ToolCall(Body):
    """A call of an earlier turn."""

    id: str | None = supported("which result belongs to this call")
    type: Literal["function"] | None = supported("functions only", examples=["function"])
    function: CalledFunction = supported("what was called", ...)


_NO_CALLS: Any = rejected("the assistant alone calls tools", neutral=([],))
_NO_THOUGHTS: Any = rejected("the assistant alone reasons", neutral=("",))
_NO_IMAGES: Any = rejected("images stand in messages of the user and of tools", neutral=([],))
_NO_CALL: Any = rejected("results of tools stand in messages of tools", neutral=("",))
_IMAGES: Any = supported("images in base64, before the text", examples=[["iVBORw0KGgo="]])


class SystemMessage(Body):
    """Instructions."""

    role: Literal["system"] = supported("who speaks", ...)
    content: str | None = supported("the text, never read as control tokens")
    images: list[str] | None = _NO_IMAGES
    thinking: str | None = _NO_THOUGHTS
    tool_calls: list[ToolCall] | None = _NO_CALLS
    tool_name: str | None = _NO_CALL
    tool_call_id: str | None = _NO_CALL


class UserMessage(SystemMessage):
    """A turn of the user."""

    role: Literal["user"] = supported("who speaks", ...)  # type: ignore[assignment]
    images: list[str] | None = _IMAGES


class AssistantMessage(SystemMessage):
    """A turn of the assistant; as the last message it is continued."""

    role: Literal["assistant"] = supported("who speaks", ...)  # type: ignore[assignment]
    thinking: str | None = supported("the reasoning, read again where the model's template keeps it")
    tool_calls: list[ToolCall] | None = supported("the calls")


class ToolMessage(SystemMessage):
    """What a tool answered."""

    role: Literal["tool"] = supported("who speaks", ...)  # type: ignore[assignment]
    images: list[str] | None = _IMAGES
    tool_name: str | None = supported("the tool it answers for, when there is no id")
    tool_call_id: str | None = supported("the call it answers; results are put in the order of their calls")


Message = Annotated[SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")]


class Function(Body):
    """A function the model may call."""

    name: str = supported("the function's name", ..., min_length=1)
    description: str | None = supported("shown to the model")
    parameters: dict[str, Any] | None = supported("JSON schema of the arguments", examples=[{"type": "object"}])
    strict: bool | None = supported("whether the arguments must satisfy the schema")


class Tool(Body):
    """A tool of the caller."""

    type: Literal["function"] | None = supported("functions only", examples=["function"])
    function: Function = supported("the function", ...)


class ModelBody(Body):
    """A request about one model."""

    model: str = supported("which of the served models answers", ..., min_length=1)
    keep_alive: float | int | str | None = ignored(
        "how long idle models stay loaded is settled at the start; 0 without a prompt unloads one"
    )


class WriteBody(ModelBody):
    """What requests that write text have in common."""

    stream: bool = supported("send the reply while it is written; true unless said otherwise", True, examples=[False])
    format: str | dict[str, Any] | None = supported(
        "json for any JSON object, or the JSON schema of the answer", examples=["json"]
    )
    options: Options | None = supported("see its fields")
    think: bool | Literal["low", "medium", "high", "max"] | None = supported(
        "whether to reason before the answer, and how much; absent: as the model's template says"
    )
    logprobs: bool | None = supported("log probabilities of the written tokens")
    top_logprobs: int | None = supported("and of as many of the likeliest in their places", ge=0, le=20)
    truncate: bool | None = rejected("what does not fit is rejected with both counts", neutral=(False,))
    shift: bool | None = rejected("a reply ends where the context is full", neutral=(False,))


class OllamaChatBody(WriteBody):
    """Body of POST /api/chat."""

    messages: list[Message] = supported("the conversation; none: load the model, or unload it with keep_alive 0", [])
    tools: list[Tool] | None = supported("functions the model may call")


class OllamaGenerateBody(WriteBody):
    """Body of POST /api/generate."""

    prompt: str = supported("what the user says; with raw, the whole prompt", "")
    system: str | None = supported("instructions before the prompt")
    images: list[str] | None = supported("images in base64, before the prompt", examples=[["iVBORw0KGgo="]])
    raw: bool = supported("the prompt is read as it is, without the model's template", False)
    context: list[int] | None = supported("tokens of the conversation so far, as the last reply gave them")
    suffix: str | None = rejected("the model was not trained to fill in the middle", neutral=("",))
    template: str | None = rejected("the model's own template is used; write raw prompts instead", neutral=("",))
    width: int | None = rejected(_WRITES)
    height: int | None = rejected(_WRITES)
    steps: int | None = rejected(_WRITES)


class OllamaEmbedBody(ModelBody):
    """Body of POST /api/embed."""

    input: str | list[str] = supported("the texts", ...)
    truncate: bool | None = rejected("what does not fit is rejected with both counts", neutral=(False,))
    dimensions: int | None = supported("the first values of each vector, scaled to length 1 again", ge=1)
    options: Options | None = supported("num_ctx; no other option has an effect on vectors")


class OllamaEmbeddingsBody(ModelBody):
    """Body of POST /api/embeddings, the older form of /api/embed."""

    prompt: str = supported("the text", ...)
    options: Options | None = supported("see /api/embed")


class OllamaShowBody(Body):
    """Body of POST /api/show."""

    model: str = supported("which of the served models is described", ..., min_length=1)
    verbose: bool | None = ignored("everything known is always shown")
