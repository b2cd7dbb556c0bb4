"""Which tokens may be drawn, against sets of ids."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from loqal.engine.sampling.constraint import TokenMask, allow

VOCAB = 70  # the last word of a mask is not full
IDS = st.sets(st.integers(0, VOCAB - 1), max_size=6)


def mask_of(ids: set[int]) -> np.ndarray:
    mask = np.zeros(-(-VOCAB // 32), np.uint32)
    for token_id in ids:
        mask[token_id >> 5] |= np.uint32(1 << (token_id & 31))
    return mask


def drawn(allowed: TokenMask | None, width: int = VOCAB) -> set[int]:
    row = np.zeros(width, np.float32)
    if allowed is not None:
        allowed.apply(row)
    assert np.isin(row, [0.0, -np.inf]).all()
    return set(np.flatnonzero(row == 0.0).tolist())


@given(st.none() | st.sets(st.integers(0, VOCAB - 1), min_size=1, max_size=6), st.sets(st.integers(-2, VOCAB + 99)))
def test_what_may_be_drawn(ids: set[int] | None, banned: set[int]) -> None:
    mask = None if ids is None else mask_of(ids)
    before = None if mask is None else mask.copy()
    allowed = allow(mask, np.array(sorted(banned), np.int32))
    every = set(range(VOCAB)) if ids is None else ids
    left = every - banned
    assert drawn(allowed) == (left or (every if ids is not None else set()))  # a ban that leaves nothing does not hold
    if ids is not None:
        assert mask is not None and np.array_equal(mask, before)  # nobody else's mask is changed
        assert allowed is not None
        expected = left or ids
        assert allowed.only == (next(iter(expected)) if len(expected) == 1 else None)
    elif not banned & set(range(VOCAB + 100)):
        assert allowed is None


@given(IDS, st.integers(1, 100))
def test_rows_of_any_width(ids: set[int], width: int) -> None:
    """The head may have more rows than the mask has bits, or fewer."""
    assert drawn(TokenMask(mask_of(ids), np.empty(0, np.int32)), width) == {one for one in ids if one < width}


def test_the_only_one() -> None:
    nothing = np.empty(0, np.int32)
    for token_id in range(VOCAB):
        assert TokenMask(mask_of({token_id}), nothing).only == token_id
    for ids in ({1, 2}, {1, 33}, {31, 32}, set()):
        assert TokenMask(mask_of(ids), nothing).only is None
    assert TokenMask(None, nothing).only is None
