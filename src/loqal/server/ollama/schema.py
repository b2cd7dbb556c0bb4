"""The answers of Ollama's API, for the OpenAPI page and for tests."""

from __future__ import annotations

from typing import Any, Literal

from loqal.server.shared.schema import Answer


class CalledAnswer(Answer):
    """The function of a call."""

    index: int
    name: str
    arguments: dict[str, Any]


class CallAnswer(Answer):
    """A call of a tool."""

    id: str | None
    function: CalledAnswer


class SaidAnswer(Answer):
    """What the assistant says, or a piece of it."""

    role: Literal["assistant"]
    content: str
    thinking: str | None = None
    tool_calls: list[CallAnswer] | None = None


class TopLogprobAnswer(Answer):
    """A token that might have come."""

    token: str
    bytes: list[int]
    logprob: float


class LogprobAnswer(TopLogprobAnswer):
    """A token that came."""

    top_logprobs: list[TopLogprobAnswer]


class WrittenAnswer(Answer):
    """What chats and generations have in common. Durations, in nanoseconds, and counts come with the end."""

    model: str
    created_at: str
    logprobs: list[LogprobAnswer] | None = None
    done: bool
    done_reason: Literal["stop", "length", "load", "unload"] | None = None
    total_duration: int | None = None
    load_duration: int | None = None
    prompt_eval_count: int | None = None
    prompt_eval_duration: int | None = None
    eval_count: int | None = None
    eval_duration: int | None = None
    cached_tokens: int | None = None
    cache_miss: str | None = None
    warnings: list[str] | None = None


class OllamaChatAnswer(WrittenAnswer):
    """A turn of the assistant, or a line of one that is streamed."""

    message: SaidAnswer


class OllamaGenerateAnswer(WrittenAnswer):
    """What follows a prompt, or a line of it; ``context`` goes into the request that is to follow."""

    response: str
    thinking: str | None = None
    tool_calls: list[CallAnswer] | None = None
    context: list[int] | None = None


class OllamaEmbedAnswer(Answer):
    """Vectors of texts."""

    model: str
    embeddings: list[list[float]]
    total_duration: int
    load_duration: int
    prompt_eval_count: int
    warnings: list[str] | None = None


class OllamaEmbeddingsAnswer(Answer):
    """The vector of a text."""

    embedding: list[float]
    warnings: list[str] | None = None


class DetailsAnswer(Answer):
    """What kind of model it is."""

    parent_model: str
    format: str
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str


class ListedAnswer(Answer):
    """A model in a list; one that is not loaded has no size and details, one that is has the rest."""

    name: str
    model: str
    modified_at: str
    digest: str
    size: int | None = None
    details: DetailsAnswer | None = None
    expires_at: str | None = None
    size_vram: int | None = None
    context_length: int | None = None


class OllamaModelsAnswer(Answer):
    """Models."""

    models: list[ListedAnswer]


class OllamaShowAnswer(Answer):
    """One model."""

    details: DetailsAnswer
    model_info: dict[str, str | int]
    capabilities: list[str]
    modified_at: str
    template: str
    warnings: list[str] | None = None


class OllamaVersionAnswer(Answer):
    """The version of the server."""

    version: str
