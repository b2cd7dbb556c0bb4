"""Replies, whole and streamed: text, tokens, log probabilities, usage and timings."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Literal

from loqal.types.messages import MediaInfo, ToolCall


class FinishReason(enum.StrEnum):
    """Why a reply ended."""

    STOP = "stop"  # an end token or a stop string
    LENGTH = "length"  # max_tokens, or the context is full
    TOOL_CALLS = "tool_calls"  # the reply ended with a complete tool call
    CANCELLED = "cancelled"  # the caller went away


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Log probability of a chosen token and of the most likely alternatives, from the unmodified distribution."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """What the engine emits for one generated token."""

    token_id: int
    logprobs: TokenLogprobs | None = None
    finish_reason: FinishReason | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one request.

    ``cached_tokens`` of the prompt came from the prefix cache; ``cache_miss`` says in words why no more of them did.
    ``drafted_tokens`` is the number of draft tokens proposed, ``accepted_tokens`` how many were accepted.
    """

    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int = 0
    cached_tokens: int = 0
    cache_miss: str | None = None
    drafted_tokens: int = 0
    accepted_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Timings:
    """Durations in milliseconds and speeds in tokens per second of one request.

    ``draft_gain`` is the decode speedup from speculative decoding, or None.
    """

    load_ms: float
    first_token_ms: float
    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    draft_gain: float | None = None


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of a tool call, for clients that assemble calls themselves.

    ``index`` counts the calls of a reply from 0. The first piece of a call has its name, the others None;
    ``arguments`` is a piece of the arguments' JSON text, and all of them in order are the whole.
    """

    index: int
    id: str
    name: str | None = None
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class ReplyDelta:
    """A piece of a streamed reply: one of the texts, or a piece of a tool call, and the ids it came from.

    Pieces of a call come when it is complete, and ``tool_call``, the whole, comes with the last of them. The last piece
    of a reply may hold ids alone: tokens that showed no text, such as the end token. ``incomplete_call`` is what was
    written of a call that the reply's end cut off. ``logprobs`` are those of
    ``token_ids`` where they were asked for.
    """

    text: str = ""
    reasoning: str = ""
    tool_call: ToolCall | None = None
    token_ids: tuple[int, ...] = ()
    call_piece: ToolCallDelta | None = None
    logprobs: tuple[TokenLogprobs, ...] = ()
    incomplete_call: str = ""


@dataclass(frozen=True, slots=True)
class RenderedSegment:
    """A run of a prompt by where it comes from: the template, the caller, or an image or video."""

    kind: Literal["template", "content", "media"]
    text: str


@dataclass(frozen=True, slots=True)
class Rendered:
    """The prompt of a conversation.

    ``cached_tokens`` of it would come from the prefix cache now, and ``cache_miss`` says why no more of them would.
    ``replays`` says for each earlier message of the assistant how it became tokens.
    """

    token_ids: tuple[int, ...]
    segments: tuple[RenderedSegment, ...]
    thinks: bool  # the reply begins with reasoning
    media: tuple[MediaInfo, ...] = ()
    cached_tokens: int = 0
    cache_miss: str | None = None
    replays: tuple[Literal["exact", "template"], ...] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """A finished reply."""

    text: str
    reasoning: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    usage: Usage
    timings: Timings
    seed: int
    tool_calls: tuple[ToolCall, ...] = ()
    logprobs: tuple[TokenLogprobs, ...] | None = None
    media: tuple[MediaInfo, ...] = ()  # of the whole conversation, in order
    stop_string: str | None = None  # of those asked for, the one that ended it
    replays: tuple[Literal["exact", "template"], ...] = ()  # of earlier messages of the assistant, in order
    incomplete_call: str = ""  # what was written of a call that the end cut off
    warnings: tuple[str, ...] = ()  # what of the request is not held, and what else the reader should know
