"""The responses of the OpenAI API, for the OpenAPI document and for tests."""

from __future__ import annotations

from typing import Literal

from loqal.server.shared.schema import Answer, TokenLogprob

FinishReason = Literal["stop", "length", "tool_calls"]


class PromptDetails(Answer):
    """Details of the prompt tokens; ``cache_miss`` is why not more of them were cached."""

    cached_tokens: int
    cache_miss: str | None = None


class CompletionDetails(Answer):
    """Details of the generated tokens; predictions are the draft tokens of speculative decoding."""

    reasoning_tokens: int
    accepted_prediction_tokens: int
    rejected_prediction_tokens: int


class Usage(Answer):
    """Token counts."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails


class Logprobs(Answer):
    """Log probabilities of the generated tokens."""

    content: list[TokenLogprob]
    refusal: None


class CalledFunction(Answer):
    """The function of a tool call."""

    name: str
    arguments: str


class FunctionPiece(Answer):
    """A delta of the function of a tool call; the first has the name."""

    name: str | None = None
    arguments: str


class ToolCall(Answer):
    """A tool call."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class ToolCallPiece(Answer):
    """A delta of a tool call; the first has the id and the type."""

    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: FunctionPiece


class Message(Answer):
    """An assistant message; the reasoning is sent under both field names in use."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[ToolCall] | None = None


class Delta(Answer):
    """A delta of an assistant message."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[ToolCallPiece] | None = None


class ChatChoice(Answer):
    """One choice."""

    index: int
    message: Message
    finish_reason: FinishReason
    logprobs: Logprobs | None


class ChatCompletion(Answer):
    """A chat completion."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    system_fingerprint: str
    service_tier: str
    warnings: list[str] | None = None


class ChunkChoice(Answer):
    """A delta of one choice."""

    index: int
    delta: Delta
    finish_reason: FinishReason | None
    logprobs: Logprobs | None


class ChatCompletionChunk(Answer):
    """One event of a streamed chat completion. The last event is the string [DONE]."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
    system_fingerprint: str
    service_tier: str
    warnings: list[str] | None = None


class CompletionLogprobs(Answer):
    """Log probabilities as parallel lists by token; the first token of an echoed prompt has none."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class CompletionChoice(Answer):
    """One choice, or a delta of it."""

    index: int
    text: str
    finish_reason: Literal["stop", "length"] | None
    logprobs: CompletionLogprobs | None


class Completion(Answer):
    """A completion, or one event of a streamed completion."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | None = None
    system_fingerprint: str
    warnings: list[str] | None = None


class Embedding(Answer):
    """One vector, as numbers or as base64 of its float32 bytes."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingUsage(Answer):
    """Token counts."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(Answer):
    """Embeddings in the order of the inputs."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage
    warnings: list[str] | None = None


class Model(Answer):
    """A served model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(Answer):
    """The served models."""

    object: Literal["list"]
    data: list[Model]


class ErrorFields(Answer):
    """The fields of an error; ``param`` is the JSON path of the invalid field."""

    message: str
    type: str
    param: str | None
    code: str | None


class Error(Answer):
    """An error."""

    error: ErrorFields
