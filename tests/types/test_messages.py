"""Messages and media as callers see them."""

from __future__ import annotations

import pytest

from loqal.types.messages import MediaInfo

INFO = MediaInfo("image", "x", (1001, 500), (960, 480), (1, 30, 60), 450)


@pytest.mark.parametrize(
    ("box", "pixels"),
    [
        ((0, 0, 1000, 1000), (0, 0, 1001, 500)),
        ((100, 500, 250, 501), (100, 250, 250, 250)),
        ((-5, -1, 1001, 2000), (0, 0, 1001, 500)),  # a model may point outside
        ((0.4, 1.0, 999.6, 999.0), (0, 0, 1001, 500)),
    ],
)
def test_boxes_in_thousandths_become_pixels(box: tuple[float, ...], pixels: tuple[int, ...]) -> None:
    assert INFO.box_pixels(box) == pixels


def test_a_box_has_four_numbers() -> None:
    with pytest.raises(ValueError, match="zip"):
        INFO.box_pixels((1, 2, 3))
