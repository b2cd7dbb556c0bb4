"""The answers of OpenAI's chats, completions, embeddings and models, for the OpenAPI page and for tests."""

from __future__ import annotations

from typing import Literal

from loqal.server.shared.schema import Answer

FinishReason = Literal["stop", "length", "tool_calls"]


class PromptDetails(Answer):
    """``cache_miss`` says why not more of the prompt were cached."""

    cached_tokens: int
    cache_miss: str | None = None


class CompletionDetails(Answer):
    """Predicted tokens are guesses made to save time."""

    reasoning_tokens: int
    accepted_prediction_tokens: int
    rejected_prediction_tokens: int


class Usage(Answer):
    """Counts of tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails


class TopLogprob(Answer):
    """A token that might have come."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TopLogprob):
    """A token that came."""

    top_logprobs: list[TopLogprob]


class Logprobs(Answer):
    """Of every token that was written."""

    content: list[TokenLogprob]
    refusal: None


class CalledFunction(Answer):
    """What is called. In a stream the arguments come in pieces."""

    name: str
    arguments: str


class FunctionPiece(Answer):
    """A piece of a call's arguments; the first piece has the name."""

    name: str | None = None
    arguments: str


class ToolCall(Answer):
    """A call."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class ToolCallPiece(Answer):
    """A piece of a call; the first has id and type."""

    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: FunctionPiece


class Message(Answer):
    """What the model said, its reasoning under both names that clients know."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[ToolCall] | None = None


class Delta(Answer):
    """A piece of what the model says."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[ToolCallPiece] | None = None


class ChatChoice(Answer):
    """One answer."""

    index: int
    message: Message
    finish_reason: FinishReason
    logprobs: Logprobs | None


class ChatCompletion(Answer):
    """The answers to a chat."""

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
    """A piece of one answer."""

    index: int
    delta: Delta
    finish_reason: FinishReason | None
    logprobs: Logprobs | None


class ChatCompletionChunk(Answer):
    """One event of a streamed chat. The last is the text [DONE]."""

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
    """Token by token; the first token of an echoed prompt has none."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class CompletionChoice(Answer):
    """One answer, or a piece of it."""

    index: int
    text: str
    finish_reason: Literal["stop", "length"] | None
    logprobs: CompletionLogprobs | None


class Completion(Answer):
    """The continuations, or one event of them when streamed."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | None = None
    system_fingerprint: str
    warnings: list[str] | None = None


class Embedding(Answer):
    """One vector, or the base64 of its float32 bytes."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingUsage(Answer):
    """Counts of tokens."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(Answer):
    """Vectors in the order of the texts."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage
    warnings: list[str] | None = None


class Model(Answer):
    """A model that is served."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(Answer):
    """All models that are served."""

    object: Literal["list"]
    data: list[Model]


class ErrorFields(Answer):
    """``param`` is the JSON path of the field that is wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class Error(Answer):
    """Any error."""

    error: ErrorFields
