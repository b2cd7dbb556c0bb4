"""One image or video of a request, planned before anything is decoded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from loqal.errors import RequestError
from loqal.media.fetch import Policy
from loqal.media.patches import cut
from loqal.media.prepare import Item, Preparer
from loqal.media.resize_rules import ImageRules, VideoRules
from loqal.types.messages import MediaPart
from media_files import encoded, picture, video

PREPARER = Preparer(ImageRules(), VideoRules(), Policy())
FRAMES = [picture(96, 64, seed) for seed in range(5)]


def image(source: Any, **bounds: Any) -> Item:
    return PREPARER.prepare(MediaPart("image", source, **bounds))


def film(source: Any, **bounds: Any) -> Item:
    return PREPARER.prepare(MediaPart("video", source, **bounds))


def test_an_image_is_one_view() -> None:
    item = image(picture(300, 200), max_tokens=30)
    (view,) = item.views
    assert item.source_size == (300, 200) and item.kind == "image"
    assert view.num_tokens == item.num_tokens == view.grid.num_patches // 4 <= 30
    assert view.grid.columns * 16 == item.size[0] and view.grid.rows * 16 == item.size[1]
    assert len(view.patches()) == view.grid.num_patches
    peak, kept = view.reading_bytes
    assert peak > kept == 3 * item.size[0] * item.size[1]


def test_digests_stand_for_content_and_size() -> None:
    digest = image(picture(300, 200)).views[0].digest
    assert image(picture(300, 200)).views[0].digest == digest
    assert image(picture(300, 200, seed=1)).views[0].digest != digest
    assert image(picture(300, 200), max_tokens=30).views[0].digest != digest
    one, two = film(FRAMES[:4]).views
    assert one.digest != two.digest
    assert film(FRAMES[:4]).views[1].digest == two.digest
    assert film([*FRAMES[:3], FRAMES[4]]).views[0].digest != one.digest  # a video is one content


def test_a_video_is_a_view_for_every_pair_of_frames() -> None:
    item = film(FRAMES)
    assert item.frame_indices == (0, 1, 2, 3, 4) and len(item.views) == 3
    assert item.num_tokens == sum(view.num_tokens for view in item.views)
    seconds = [view.seconds for view in item.views]
    assert None not in seconds and seconds == sorted(seconds)  # type: ignore[type-var]
    peak, kept = item.views[0].reading_bytes
    one = 3 * item.size[0] * item.size[1]
    assert peak >= kept == 7 * one  # five frames, and the pair that is cut


def test_the_last_frame_of_an_odd_number_stands_twice() -> None:
    item = film(FRAMES)
    last = item.views[2].patches().values
    assert np.array_equal(last[:, :, 0], last[:, :, 1])
    first = item.views[0].patches().values
    assert not np.array_equal(first[:, :, 0], first[:, :, 1])


def test_views_may_be_read_in_any_order_and_again() -> None:
    item, other = film(FRAMES), film(FRAMES)
    expected = [view.patches().values for view in item.views]
    for index in (2, 0, 1, 1, 2):
        assert np.array_equal(other.views[index].patches().values, expected[index])


def test_a_picture_is_cut_as_it_is_shown() -> None:
    plain = np.full((64, 96, 3), 77, np.uint8)
    item = image(encoded(plain, "PNG"), min_tokens=6, max_tokens=6)
    assert item.size == (96, 64)
    assert np.array_equal(item.views[0].patches().values, cut([plain], item.rules.patch)[0].values)


@pytest.mark.parametrize(
    ("kind", "source", "bounds"),
    [
        ("image", FRAMES[0], {"fps": 1.0}),
        ("image", FRAMES[0], {"max_frames": 4}),
        ("video", FRAMES, {"min_tokens": 4}),
        ("video", FRAMES[:1], {}),
    ],
)
def test_what_does_not_go_together(kind: Any, source: Any, bounds: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        PREPARER.prepare(MediaPart(kind, source, **bounds))


def test_frames_of_a_file_are_thinned_and_those_of_a_list_are_not() -> None:
    assert len(film(video(count=40, fps=10)).frame_indices) == 8  # two a second
    assert len(film(video(count=40, fps=10), fps=5).frame_indices) == 20
    assert film(FRAMES, fps=1).frame_indices == (0, 1, 2, 3, 4)
    assert PREPARER.largest_pixels == ImageRules().max_pixels
