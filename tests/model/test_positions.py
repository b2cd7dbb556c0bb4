"""Rotary positions of a prompt, against the rule spelled out token by token."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loqal.model.positions import Placed, rotary_positions

PARTS = st.lists(st.integers(0, 4) | st.tuples(st.integers(1, 4), st.integers(1, 4)), max_size=6)


def spelled_out(parts: list[int | tuple[int, int]]) -> tuple[list[tuple[int, int, int]], list[Placed]]:
    found: list[tuple[int, int, int]] = []
    pictures: list[Placed] = []
    now = 0
    for part in parts:
        if isinstance(part, int):
            found += [(now + i,) * 3 for i in range(part)]
            now += part
        else:
            rows, columns = part
            pictures.append(Placed(len(found), rows, columns))
            found += [(now, now + row, now + column) for row in range(rows) for column in range(columns)]
            now = max(max(position) for position in found) + 1
    return found, pictures


@given(PARTS)
def test_text_advances_and_pictures_spread(parts: list[int | tuple[int, int]]) -> None:
    expected, pictures = spelled_out(parts)
    positions = rotary_positions(len(expected), pictures)
    assert positions.dtype == np.int32 and positions.shape == (len(expected), 3)
    assert positions.tolist() == [list(position) for position in expected]


@pytest.mark.parametrize(("rows", "columns"), [(2, 5), (5, 2)])
def test_what_follows_a_picture_goes_on_past_its_longer_side(rows: int, columns: int) -> None:
    positions = rotary_positions(1 + rows * columns + 1, [Placed(1, rows, columns)])
    assert positions[-1].tolist() == [1 + 5] * 3
    assert positions[:-1].max() == 5
