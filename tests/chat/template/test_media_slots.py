"""Media in the prompt: written out as marks, and found again among the ids."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_vocabulary import gguf_metadata, tokenizer
from loqal.chat.template.media_slots import Picture, check_vocabulary, fill, starts
from loqal.chat.template.segments import IMAGE_SLOT, VIDEO_SLOT, Segment, joined
from loqal.chat.tokens.tokenizer import Tokenizer
from loqal.errors import RequestError, UnsupportedError
from loqal.types.messages import MediaPart

PADS = {tokenizer().special_ids[name] for name in ("<|image_pad|>", "<|video_pad|>")}
SLOTS = {"image": IMAGE_SLOT, "video": VIDEO_SLOT}
PICTURES = st.builds(Picture, st.integers(1, 9), st.none() | st.floats(0, 999))
MEDIA = st.lists(st.tuples(st.sampled_from(["image", "video"]), st.lists(PICTURES, min_size=1, max_size=4)), max_size=4)


def prompt(media: list[tuple[str, list[Picture]]]) -> list[Segment]:
    found = [Segment("start ", is_template=True)]
    for kind, _ in media:
        found += [Segment(SLOTS[kind], True, MediaPart(kind)), Segment(" between ")]  # type: ignore[arg-type]
    return found


@given(MEDIA)
def test_every_picture_is_found_where_it_was_written(media: list[tuple[str, list[Picture]]]) -> None:
    segments = fill(prompt(media), [pictures for _, pictures in media])
    ids = tokenizer().encode_with_control(joined(segments))
    pictures = [picture for _, pictures in media for picture in pictures]
    found = starts(ids, pictures, tokenizer())
    assert found == sorted(found)
    taken = [
        index for start, one in zip(found, pictures, strict=True) for index in range(start, start + one.num_tokens)
    ]
    assert taken == [index for index, token_id in enumerate(ids) if token_id in PADS]
    assert [segment.text for segment in segments if segment.media is None][:1] == ["start "]


def test_how_it_is_written() -> None:
    segments = fill(prompt([("video", []), ("image", [])]), [[Picture(2, 0.25), Picture(1, 1.0)], [Picture(3)]])
    assert joined(segments) == (
        "start <0.2 seconds><|vision_start|><|video_pad|><|video_pad|><|vision_end|>"
        "<1.0 seconds><|vision_start|><|video_pad|><|vision_end|> between "
        "<|vision_start|><|image_pad|><|image_pad|><|image_pad|><|vision_end|> between "
    )


@pytest.mark.parametrize(
    ("pads", "tokens"), [([3], [2]), ([3], [4]), ([3], []), ([], [1]), ([2, 2], [4]), ([2, 2], [2]), ([2], [2, 2])]
)
def test_marks_that_belong_to_no_picture(pads: list[int], tokens: list[int]) -> None:
    pad = tokenizer().special_ids["<|image_pad|>"]
    ids = [index for count in pads for index in [5, *[pad] * count, 6]]
    with pytest.raises(RequestError):
        starts(ids, list(map(Picture, tokens)), tokenizer())


def test_a_vocabulary_without_marks() -> None:
    check_vocabulary(tokenizer())
    metadata = gguf_metadata()
    tokens = ["<|other|>" if token == "<|video_pad|>" else token for token in metadata["tokenizer.ggml.tokens"]]
    without = Tokenizer.from_gguf({**metadata, "tokenizer.ggml.tokens": tokens})
    with pytest.raises(UnsupportedError):
        check_vocabulary(without)
    with pytest.raises(UnsupportedError):
        starts([1], [], without)
