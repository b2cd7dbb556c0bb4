"""Keys of media: one for every digest and row, and the same content under another process's numbers."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from loqal.engine.cache.media_keys import MediaKeys

SPANS = st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.integers(1, 5)), max_size=6)


def test_no_two_rows_have_one_key() -> None:
    media = MediaKeys()
    a, b = media.keys(b"a", 5), media.keys(b"b", 5)
    assert len({*a.tolist(), *b.tolist()}) == 10
    assert max(*a, *b) < 0  # no token id
    assert np.array_equal(media.keys(b"a", 3), a[:3])


@given(SPANS, st.lists(st.sampled_from([b"a", b"b", b"c", b"d"])))
def test_keys_travel_between_processes(spans: list[tuple[bytes, int]], met: list[bytes]) -> None:
    mine, other = MediaKeys(), MediaKeys()
    for digest in met:
        other.keys(digest, 1)  # the other process numbers them in its own order

    def prompt(media: MediaKeys) -> np.ndarray:
        parts = [np.concatenate([[7], media.keys(digest, length)]) for digest, length in spans]
        return np.concatenate([[1], *parts]).astype(np.int64)

    keys, digests = mine.portable(prompt(mine))
    assert digests == list(dict.fromkeys(digest for digest, _ in spans))
    assert np.array_equal(other.localised(keys, digests), prompt(other))


def test_portable_keys_do_not_depend_on_what_else_was_seen() -> None:
    busy, fresh = MediaKeys(), MediaKeys()
    busy.keys(b"z", 9)
    left, right = busy.portable(busy.keys(b"a", 4)), fresh.portable(fresh.keys(b"a", 4))
    assert np.array_equal(left[0], right[0]) and left[1] == right[1] == [b"a"]
    assert left[0].tolist() == [-1, -2, -3, -4]
