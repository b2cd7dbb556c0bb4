"""The answers of Anthropic's Messages API, for the OpenAPI page and for tests."""

from __future__ import annotations

from typing import Any, Literal

from loqal.server.shared.schema import Answer

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "model_context_window_exceeded"]


class ThinkingAnswer(Answer):
    """Reasoning; the signature shows whether it comes back as it was written."""

    type: Literal["thinking"]
    thinking: str
    signature: str


class TextAnswer(Answer):
    """Text."""

    type: Literal["text"]
    text: str


class ToolUseAnswer(Answer):
    """A call of a tool."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]


class ThinkingTokens(Answer):
    """Of the tokens that were written."""

    thinking_tokens: int


class MessageUsage(Answer):
    """Counts of tokens; the prompt has ``input_tokens`` and ``cache_read_input_tokens``."""

    input_tokens: int
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0
    output_tokens: int
    output_tokens_details: ThinkingTokens | None = None
    cache_miss: str | None = None


class MessageAnswer(Answer):
    """A turn of the assistant."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[ThinkingAnswer | TextAnswer | ToolUseAnswer]
    stop_reason: StopReason | None
    stop_sequence: str | None
    usage: MessageUsage
    warnings: list[str] | None = None


class CountAnswer(Answer):
    """How many tokens a conversation has."""

    input_tokens: int
    warnings: list[str] | None = None


class MessageEvent(Answer):
    """One event of a streamed message; its type says which fields it has."""

    type: Literal[
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "ping",
        "error",
    ]
    message: MessageAnswer | None = None
    index: int | None = None
    content_block: ThinkingAnswer | TextAnswer | ToolUseAnswer | None = None
    delta: dict[str, Any] | None = None
    usage: MessageUsage | None = None
    error: dict[str, Any] | None = None
    request_id: str | None = None
