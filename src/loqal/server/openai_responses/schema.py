"""The responses of the Responses API, for the OpenAPI document and for tests."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict

from loqal.server.shared.schema import Answer, TokenLogprob

ItemStatus = Literal["in_progress", "completed", "incomplete"]


class ReasoningPart(Answer):
    """A reasoning part."""

    type: Literal["reasoning_text"]
    text: str


class TextPartAnswer(Answer):
    """A text part."""

    type: Literal["output_text"]
    text: str
    annotations: list[Any]
    logprobs: list[TokenLogprob]


class ReasoningAnswer(Answer):
    """A reasoning item."""

    id: str
    type: Literal["reasoning"]
    status: ItemStatus
    summary: list[Any]
    content: list[ReasoningPart]
    encrypted_content: str | None = None


class SaidItemAnswer(Answer):
    """A message item."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    status: ItemStatus
    content: list[TextPartAnswer]


class CallItemAnswer(Answer):
    """A function call item."""

    id: str
    type: Literal["function_call"]
    status: ItemStatus
    call_id: str
    name: str
    arguments: str


class CachedDetails(Answer):
    """Details of the input tokens."""

    cached_tokens: int
    cache_write_tokens: int


class ReasoningDetails(Answer):
    """Details of the output tokens."""

    reasoning_tokens: int


class ResponseUsage(Answer):
    """Token counts."""

    input_tokens: int
    input_tokens_details: CachedDetails
    output_tokens: int
    output_tokens_details: ReasoningDetails
    total_tokens: int
    cache_miss: str | None = None


class ResponseAnswer(Answer):
    """A response; it also has the fields of its request."""

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
    """One event of a streamed response; its type determines its fields."""

    model_config = ConfigDict(extra="allow")

    type: str
    sequence_number: int
    response: ResponseAnswer | None = None


class DeletedAnswer(Answer):
    """A deleted response."""

    id: str
    object: Literal["response"]
    deleted: Literal[True]


class ItemsAnswer(Answer):
    """A page of the input items of a request."""

    object: Literal["list"]
    data: list[dict[str, Any]]
    first_id: str
    last_id: str
    has_more: bool


class InputTokensAnswer(Answer):
    """The number of input tokens of a request."""

    object: Literal["response.input_tokens"]
    input_tokens: int
    warnings: list[str] | None = None
