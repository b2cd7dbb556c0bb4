"""The responses of the Ollama API, for the OpenAPI document and for tests."""

from __future__ import annotations

from typing import Any, Literal

from loqal.server.shared.schema import Answer, TokenLogprob


class CalledAnswer(Answer):
    """The function of a tool call."""

    index: int
    name: str
    arguments: dict[str, Any]


class CallAnswer(Answer):
    """A tool call."""

    id: str | None
    function: CalledAnswer


class SaidAnswer(Answer):
    """An assistant message, or a delta of it."""

    role: Literal["assistant"]
    content: str
    thinking: str | None = None
    tool_calls: list[CallAnswer] | None = None


class GenerationAnswer(Answer):
    """The fields of chats and generations; the last line has the counts and the durations in nanoseconds."""

    model: str
    created_at: str
    logprobs: list[TokenLogprob] | None = None
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


class OllamaChatAnswer(GenerationAnswer):
    """A chat reply, or one line of a streamed one."""

    message: SaidAnswer


class OllamaGenerateAnswer(GenerationAnswer):
    """A generated reply, or one line of a streamed one; ``context`` continues the conversation."""

    response: str
    thinking: str | None = None
    tool_calls: list[CallAnswer] | None = None
    context: list[int] | None = None


class OllamaEmbedAnswer(Answer):
    """Embeddings of texts."""

    model: str
    embeddings: list[list[float]]
    total_duration: int
    load_duration: int
    prompt_eval_count: int
    warnings: list[str] | None = None


class OllamaEmbeddingsAnswer(Answer):
    """The embedding of a text."""

    embedding: list[float]
    warnings: list[str] | None = None


class DetailsAnswer(Answer):
    """Details of a model."""

    parent_model: str
    format: str
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str


class ListedAnswer(Answer):
    """A listed model; size and details only if it is loaded, the last three fields only in /api/ps."""

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
    """A list of models."""

    models: list[ListedAnswer]


class OllamaShowAnswer(Answer):
    """The description of one model."""

    details: DetailsAnswer
    model_info: dict[str, str | int]
    capabilities: list[str]
    modified_at: str
    template: str
    warnings: list[str] | None = None


class OllamaVersionAnswer(Answer):
    """The version of the server."""

    version: str
