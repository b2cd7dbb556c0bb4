"""A prompt before it becomes token ids: pieces of text that say where they come from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from loqal.types.messages import MediaPart

THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
CALL_OPEN, CALL_CLOSE = "<tool_call>", "</tool_call>"
IMAGE_SLOT = "<|vision_start|><|image_pad|><|vision_end|>"
VIDEO_SLOT = "<|vision_start|><|video_pad|><|vision_end|>"


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of prompt text.

    Only text written by the template may become control tokens (``is_template``). Everything a caller supplied, however
    it looks, stays ordinary text. A media slot is a template segment that carries the part to put there. A segment with
    ``ids`` is these tokens, whatever its text would become; ``message`` is the index of the message they replay.
    """

    text: str
    is_template: bool = False
    media: MediaPart | None = None
    ids: tuple[int, ...] | None = None
    message: int | None = None

    @property
    def is_text(self) -> bool:
        """Whether it becomes what its text becomes."""
        return self.media is None and self.ids is None


@dataclass(frozen=True, slots=True)
class Replayed:
    """The tokens of an earlier reply without the end token, see ``replay``.

    ``whole`` follows the opening tag of the reasoning where ``thought``, else an empty block of it; ``answer`` follows
    the header of the turn where the template leaves the reasoning out, None where that cannot be cut out.
    """

    whole: Segment
    answer: Segment | None
    thought: bool


def joined(segments: Iterable[Segment]) -> str:
    """The prompt as one string, as a person would read it."""
    return "".join(segment.text for segment in segments)


def ends_in_thinking(segments: Iterable[Segment]) -> bool:
    """Whether the prompt leaves a think block open, so that the reply begins with reasoning."""
    text = "".join(segment.text if segment.is_template else " " for segment in segments)
    return text.rfind(THINK_OPEN) > text.rfind(THINK_CLOSE)
