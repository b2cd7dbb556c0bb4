"""The responses of the Anthropic API, for the OpenAPI document and for tests."""

from __future__ import annotations

from typing import Any, Literal

from loqal.server.shared.schema import Answer

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "model_context_window_exceeded"]


class ThinkingAnswer(Answer):
    """A thinking block; the signature is a digest of the reasoning."""

    type: Literal["thinking"]
    thinking: str
    signature: str


class TextAnswer(Answer):
    """A text block."""

    type: Literal["text"]
    text: str


class ToolUseAnswer(Answer):
    """A tool call."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]


class ThinkingTokens(Answer):
    """Details of the output tokens."""

    thinking_tokens: int


class MessageUsage(Answer):
    """Token counts; the prompt has ``input_tokens`` plus ``cache_read_input_tokens`` tokens."""

    input_tokens: int
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0
    output_tokens: int
    output_tokens_details: ThinkingTokens | None = None
    cache_miss: str | None = None


class MessageAnswer(Answer):
    """An assistant message."""

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
    """The number of prompt tokens of a conversation."""

    input_tokens: int
    warnings: list[str] | None = None


class MessageEvent(Answer):
    """One event of a streamed message; its type determines its fields."""

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
