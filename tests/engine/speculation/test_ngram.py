"""Drafts from the sequence itself, against a search through all of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from loqal.engine.speculation.ngram import NgramIndex


def searched(ids: list[int], depth: int) -> list[int]:
    """What followed the longest run that the sequence ends with, where it stood last before the end."""
    for length in (4, 3, 2):
        for end in range(len(ids) - 1, length - 1, -1):
            if ids[end - length : end] == ids[len(ids) - length :]:
                period = len(ids) - end
                return [ids[end + index % period] for index in range(depth)]
    return []


@given(st.lists(st.integers(0, 2), max_size=30), st.integers(0, 6), st.lists(st.integers(0, 30)))
def test_drafts_are_what_followed_last(ids: list[int], depth: int, cuts: list[int]) -> None:
    index = NgramIndex()
    for cut in sorted(min(cut, len(ids)) for cut in cuts):  # asked as the sequence grows
        assert index.propose(ids[:cut], depth) == searched(ids[:cut], depth)
    assert index.propose(ids, depth) == searched(ids, depth)


def test_a_repetition_goes_on() -> None:
    assert NgramIndex().propose([9, 1, 2, 3, 1, 2, 3], 5) == [1, 2, 3, 1, 2]
    assert NgramIndex().propose([1, 2, 3, 4], 3) == []
    assert NgramIndex().propose([5, 5], 3) == []  # one token alone says nothing
    assert NgramIndex().propose([5, 5, 5], 3) == [5, 5, 5]


def test_longer_agreement_counts_more_than_a_later_one() -> None:
    ids = [1, 2, 3, 4, 7, 3, 4, 8, 1, 2, 3, 4]
    assert NgramIndex().propose(ids, 1) == [7]
