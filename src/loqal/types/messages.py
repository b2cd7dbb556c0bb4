"""Messages of a conversation and their parts: text, images, videos, tool calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class TextPart:
    """A run of text inside a message."""

    text: str


@dataclass(frozen=True, slots=True)
class MediaPart:
    """An image or a video inside a message.

    ``source`` is a path, bytes, an open binary file, a PIL image, an array of pixels, a data URL, an http URL where
    that is allowed, or, for a video, a list of frames. The bounds are None for the model's own.
    """

    kind: Literal["image", "video"]
    source: Any = None
    min_tokens: int | None = None  # images
    max_tokens: int | None = None
    fps: float | None = None  # videos: frames sampled per second; for a list of frames, its frame rate
    max_frames: int | None = None  # videos


Part = TextPart | MediaPart


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """Size and token count of an image or a video, known before its pixels are decoded.

    Boxes that a model gives in thousandths of the picture are turned into its own pixels by ``box_pixels``.
    """

    kind: Literal["image", "video"]
    name: str
    source_size: tuple[int, int]  # width, height, upright
    size: tuple[int, int]  # as the model sees it
    grid: tuple[int, int, int]  # images or pairs of frames, then rows and columns of patches
    num_tokens: int
    frame_indices: tuple[int, ...] = ()
    seconds: tuple[float, ...] = ()  # of every pair of frames

    def box_pixels(self, box: Sequence[float]) -> tuple[int, int, int, int]:
        """Left, top, right, bottom in pixels of the source, from thousandths of its width and height."""
        width, height = self.source_size
        x0, y0, x1, y1 = (
            min(max(round(value * side / 1000), 0), side)
            for value, side in zip(box, (width, height, width, height), strict=True)
        )
        return x0, y0, x1, y1


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call the assistant made. ``arguments`` keeps the order in which they were written."""

    name: str
    arguments: Mapping[str, Any]
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation. ``content`` is a string or a sequence of parts.

    ``reasoning`` is the assistant's thinking, kept apart from its answer; ``None`` means not given. ``token_ids`` are
    those of the reply this message was (``Reply.token_ids``); where they agree with the rest of it, they are what the
    model reads again.
    """

    role: Role
    content: str | Sequence[Part] = ""
    reasoning: str | None = None
    tool_calls: Sequence[ToolCall] = ()
    token_ids: tuple[int, ...] | None = None
