"""The answers of OpenAI's Responses API, for the OpenAPI page and for tests."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict

from loqal.server.openai.schema import TokenLogprob
from loqal.server.shared.schema import Answer

ItemStatus = Literal["in_progress", "completed", "incomplete"]


class ReasoningPart(Answer):
    """Reasoning."""

    type: Literal["reasoning_text"]
    text: str


class TextPartAnswer(Answer):
    """Text."""

    type: Literal["output_text"]
    text: str
    annotations: list[Any]
    logprobs: list[TokenLogprob]


class ReasoningAnswer(Answer):
    """What the model reasoned."""

    id: str
    type: Literal["reasoning"]
    status: ItemStatus
    summary: list[Any]
    content: list[ReasoningPart]
    encrypted_content: str | None = None


class SaidItemAnswer(Answer):
    """What the model said."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    status: ItemStatus
    content: list[TextPartAnswer]


class CallItemAnswer(Answer):
    """A call of a function."""

    id: str
    type: Literal["function_call"]
    status: ItemStatus
    call_id: str
    name: str
    arguments: str


class CachedDetails(Answer):
    """Of the tokens of the prompt."""

    cached_tokens: int
    cache_write_tokens: int


class ReasoningDetails(Answer):
    """Of the tokens that were written."""

    reasoning_tokens: int


class ResponseUsage(Answer):
    """Counts of tokens."""

    input_tokens: int
    input_tokens_details: CachedDetails
    output_tokens: int
    output_tokens_details: ReasoningDetails
    total_tokens: int
    cache_miss: str | None = None


class ResponseAnswer(Answer):
    """A response. Beside these fields stand those of the request."""

    model_config = ConfigDict(extra="allow")

    id: str
    object: Literal["response"]
    created_at: float
    completed_at: float | None = None
    status: Literal["in_progress", "completed", "incomplete", "cancelled", "failed"]
    model: str
    output: list[ReasoningAnswer | SaidItemAnswer | CallItemAnswer]
    error: dict[str, str] | None
    incomplete_details: dict[str, str] | None
    usage: ResponseUsage | None
    warnings: list[str] | None = None


class ResponseEvent(Answer):
    """One event of a streamed response; its type says which fields it has."""

    model_config = ConfigDict(extra="allow")

    type: str
    sequence_number: int
    response: ResponseAnswer | None = None


class DeletedAnswer(Answer):
    """A response that was forgotten."""

    id: str
    object: Literal["response"]
    deleted: Literal[True]


class ItemsAnswer(Answer):
    """Items of a request, a page of them."""

    object: Literal["list"]
    data: list[dict[str, Any]]
    first_id: str
    last_id: str
    has_more: bool


class InputTokensAnswer(Answer):
    """How many tokens a request has."""

    object: Literal["response.input_tokens"]
    input_tokens: int
    warnings: list[str] | None = None
