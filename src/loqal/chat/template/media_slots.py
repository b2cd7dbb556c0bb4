"""Media slots of a prompt: from one mark per image or video to one per token, and where those stand among the ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from loqal.chat.template.segments import Segment
from loqal.chat.tokens.tokenizer import Tokenizer
from loqal.errors import RequestError, UnsupportedError

_START, _END = "<|vision_start|>", "<|vision_end|>"
_PADS = {"image": "<|image_pad|>", "video": "<|video_pad|>"}


@dataclass(frozen=True, slots=True)
class Picture:
    """What one picture, or one pair of frames at its time, takes in the prompt."""

    num_tokens: int
    seconds: float | None = None


def fill(segments: Iterable[Segment], pictures: Iterable[Sequence[Picture]]) -> list[Segment]:
    """The segments with every media slot written out; ``pictures`` has one sequence per slot, in order.

    The pairs of frames of a video stand behind their times, each between marks of its own, and no further marks stand
    around the whole.
    """
    waiting = iter(pictures)
    return [
        segment
        if segment.media is None
        else replace(segment, text="".join(_written(segment.media.kind, picture) for picture in next(waiting)))
        for segment in segments
    ]


def _written(kind: str, picture: Picture) -> str:
    time = "" if picture.seconds is None else f"<{picture.seconds:.1f} seconds>"
    return time + _START + _PADS[kind] * picture.num_tokens + _END


def starts(prompt_ids: Sequence[int], pictures: Sequence[Picture], tokenizer: Tokenizer) -> list[int]:
    """The index of the first token of every picture, in order.

    Raises:
        RequestError: the prompt holds marks that belong to no picture.
        UnsupportedError: the vocabulary has no such marks.
    """
    check_vocabulary(tokenizer)
    pads = {tokenizer.special_ids[name] for name in _PADS.values()}
    found: list[int] = []
    index = 0
    for picture in pictures:
        while index < len(prompt_ids) and prompt_ids[index] not in pads:
            index += 1
        if any(token_id not in pads for token_id in prompt_ids[index : index + picture.num_tokens]):
            raise _stray()
        found.append(index)
        index += picture.num_tokens
    if index > len(prompt_ids) or any(token_id in pads for token_id in prompt_ids[index:]):
        raise _stray()
    return found


def check_vocabulary(tokenizer: Tokenizer) -> None:
    """Raise UnsupportedError when a vocabulary cannot place pictures."""
    for name in (_START, _END, *_PADS.values()):
        if name not in tokenizer.special_ids:
            raise UnsupportedError(
                f"The vocabulary has no control token {name}.",
                "Pictures are placed with it.",
                "Use an unmodified checkpoint of the Qwen 3.5 family.",
            )


def _stray() -> RequestError:
    return RequestError(
        "The prompt holds marks of images or videos that belong to none.",
        "The chat template wrote them besides those of the conversation.",
        "Choose another template.",
    )
