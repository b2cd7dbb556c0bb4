"""Rotary positions of a prompt: text advances all three axes, an image extends over height and width.

An image has one time position; its rows and columns count from there, and the text after it continues past the longer
side.
Every pair of frames of a video is a picture of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from loqal.ops.interface import IntArray


class Placed(NamedTuple):
    """An image in the prompt: the index of its first token, and its tokens by row and column."""

    start: int
    rows: int
    columns: int


def rotary_positions(num_tokens: int, pictures: Iterable[Placed]) -> IntArray:
    """Time, height and width of every token: -> [num_tokens 3]. Pictures ascend and do not overlap.

    What is generated goes on one past the largest position.
    """
    positions = np.empty((num_tokens, 3), np.int32)
    token, position = 0, 0
    for start, rows, columns in pictures:
        position = _text(positions, token, start, position)
        token = start + rows * columns
        grid = np.indices((rows, columns), np.int32).reshape(2, -1).T
        positions[start:token, 0] = position
        positions[start:token, 1:] = position + grid
        position += max(rows, columns)
    _text(positions, token, num_tokens, position)
    return positions


def _text(positions: IntArray, start: int, end: int, position: int) -> int:
    positions[start:end] = np.arange(position, position + end - start, dtype=np.int32)[:, None]
    return position + end - start
