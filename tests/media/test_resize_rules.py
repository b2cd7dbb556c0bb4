"""Sizes of pictures and videos: laws of the arithmetic, whatever the shape."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from loqal.errors import FormatError, RequestError
from loqal.media.resize_rules import MAX_ASPECT, ImageRules, PatchRules, VideoRules, check_aspect, read_rules

UNIT = PatchRules().unit
SIDES = st.integers(1, 6000)


@given(SIDES, SIDES, st.integers(1, 300), st.integers(0, 300))
def test_a_picture_keeps_its_bounds_and_nearly_its_shape(width: int, height: int, low: int, more: int) -> None:
    assume(max(width, height) <= MAX_ASPECT * min(width, height))
    rules = ImageRules().within(low, low + more)
    found = rules.size(width, height)
    assert all(side >= UNIT and side % UNIT == 0 for side in found)
    area, plain = found[0] * found[1], round(width / UNIT) * round(height / UNIT) * UNIT**2
    if plain > rules.max_pixels:
        assert area <= rules.max_pixels or min(found) == UNIT  # one row of tokens is the least there is
    elif plain < rules.min_pixels:
        assert area >= rules.min_pixels
    else:
        assert area == plain
    assert rules.size(height, width) == found[::-1]


@given(st.integers(8, 100), st.integers(8, 100))
def test_a_size_that_fits_stays(columns: int, rows: int) -> None:
    assert ImageRules().size(columns * UNIT, rows * UNIT) == (columns * UNIT, rows * UNIT)


@given(st.integers(1, 20).map(lambda pairs: 2 * pairs), SIDES, SIDES, st.integers(8, 500))
def test_a_video_keeps_its_budget(frames: int, width: int, height: int, tokens: int) -> None:
    rules = VideoRules().within(tokens, None, None)
    try:
        found = rules.size(frames, width, height)
    except RequestError:
        return
    assert all(side >= UNIT and side % UNIT == 0 for side in found)
    pairs = frames // 2
    assert pairs * found[0] * found[1] // UNIT**2 <= max(tokens, pairs * max(found) // UNIT)


@pytest.mark.parametrize(
    ("width", "height", "is_fine"), [(200, 1, True), (201, 1, False), (1, 201, False), (0, 5, False)]
)
def test_shapes_the_model_was_never_shown(width: int, height: int, is_fine: bool) -> None:
    if is_fine:
        check_aspect(width, height)
    else:
        with pytest.raises(RequestError):
            check_aspect(width, height)


def test_bounds_of_an_image() -> None:
    rules, pixels = ImageRules(), UNIT**2
    assert rules.within(None, None) == rules
    assert rules.within(5, 5).size(1000, 1000) == rules.within(5, 5).size(3000, 3000)
    low = rules.within(None, 3)
    assert (low.min_pixels, low.max_pixels) == (3 * pixels, 3 * pixels)
    high = rules.within(100_000, None)
    assert high.min_pixels == high.max_pixels == 100_000 * pixels
    for bounds in ((5, 4), (0, 4), (1.5, None), (True, None), (None, "x"), (None, -1)):
        with pytest.raises(RequestError):
            rules.within(*bounds)  # type: ignore[arg-type]


def test_bounds_of_a_video() -> None:
    rules = VideoRules().within(100, 1, 3)
    assert (rules.fps, rules.max_frames, rules.min_frames) == (1.0, 3, 3)
    assert rules.max_volume == 100 * UNIT**2 * 2 and rules.min_volume == 4096
    assert VideoRules().within(1, None, None).min_volume == UNIT**2 * 2 // 4
    for bounds in ((0, None, None), (None, 0, None), (None, 1001, None), (None, "2", None), (None, None, 1)):
        with pytest.raises(RequestError):
            VideoRules().within(*bounds)  # type: ignore[arg-type]
    assert VideoRules().within(None, 1000, 2).fps == 1000


@pytest.mark.parametrize(
    ("total", "fps", "count"), [(100, 25, 8), (100, 1000, 4), (3, 1000, 3), (10_000, 1, 768), (1, 1, 1)]
)
def test_frames_that_are_looked_at(total: int, fps: float, count: int) -> None:
    assert VideoRules().num_frames(total, fps) == count


def test_impossible_numbers_in_files() -> None:
    for video in ({"fps": 0}, {"max_frames": -1}, {"fps": True}, {"min_frames": "x"}, {"size": {"longest_edge": 10}}):
        with pytest.raises(FormatError):
            read_rules({}, video, PatchRules())
    assert read_rules({"size": "large"}, {}, PatchRules())[0] == ImageRules()
