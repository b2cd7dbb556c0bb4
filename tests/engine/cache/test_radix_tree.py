"""The radix tree against the plainest thing that could answer: lists of runs."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from loqal.engine.cache.radix_tree import RadixTree, common_len

Run = tuple[int, ...]

RUNS = st.lists(st.sampled_from([1, 2, -1]), max_size=7).map(tuple)


def keys(run: Run) -> np.ndarray:
    return np.array(run, np.int64)


def shared(a: Run, b: Run) -> int:
    return next((index for index, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def is_prefix(short: Run, long: Run) -> bool:
    return long[: len(short)] == short


class Plain:
    """What a tree remembers, as lists."""

    def __init__(self) -> None:
        self.runs: set[Run] = set()
        self.entries: dict[Run, int] = {}
        self.lost: set[Run] = set()

    def insert(self, run: Run, entry: int | None) -> int | None:
        self.runs.add(run)
        if entry is None or not run:
            return None
        self.lost.discard(run)
        known = self.entries.get(run)
        self.entries.setdefault(run, entry)
        return known

    def remove(self, run: Run) -> None:
        if self.entries.pop(run, None) is not None:
            self.lost.add(run)

    def find(self, run: Run, limit: int) -> tuple[int, int, int | None, bool]:
        known = max((shared(run, other) for other in self.runs), default=0)
        fitting = [one for one in self.entries if is_prefix(one, run) and len(one) <= limit]
        deepest = max(fitting, key=len, default=())
        lost = [one for one in self.lost if is_prefix(one, run) and len(one) <= limit]
        return known, len(deepest), self.entries.get(deepest), max(map(len, lost), default=0) > len(deepest)

    def above(self, run: Run) -> int:
        return max((len(one) for one in self.entries if is_prefix(one, run) and one != run), default=0)

    @property
    def num_keys(self) -> int:
        return len({run[:length] for run in self.runs for length in range(1, len(run) + 1)})


STEPS = st.lists(st.tuples(st.sampled_from(["insert", "remember", "remove", "find"]), RUNS, st.integers(0, 8)))


SPLIT: list[tuple[str, Run, int]] = [("insert", (1, 1), 2), ("insert", (1, 1, 2), 3), ("insert", (1, 2), 2)]


LOST: list[tuple[str, Run, int]] = [("insert", (1, 2), 2), ("remove", (1, 2), 2), ("find", (1, 2, 1), 2)]


@example(LOST)
@example(SPLIT)
@given(STEPS)
def test_a_tree_answers_as_lists_do(steps: list[tuple[str, Run, int]]) -> None:
    tree: RadixTree[int] = RadixTree(1000)
    plain = Plain()
    for number, (verb, run, limit) in enumerate(steps, 1):
        if verb == "insert":
            assert tree.insert(keys(run), number) == plain.insert(run, number)
        elif verb == "remember":
            assert tree.insert(keys(run)) is plain.insert(run, None)
        elif verb == "remove":
            tree.remove(keys(run))
            plain.remove(run)
        found = tree.find(keys(run), limit)
        assert tuple(found) == plain.find(run, limit)
        assert tree.above(keys(run)) == plain.above(run)
        assert tree.num_keys == plain.num_keys


def test_a_run_is_never_given_what_belongs_to_another() -> None:
    """What would follow is a reply from the state of another prompt."""
    tree: RadixTree[str] = RadixTree(1000)
    tree.insert(keys((1, 1)))
    tree.insert(keys((1, 1, 2)))
    tree.insert(keys((1, 2)), "of 1 2")
    assert tree.find(keys((1, 1, 2)), 3).entry is None
    assert tree.find(keys((1, 2)), 2).entry == "of 1 2"


@example([(1, 1), (1, 1, 2), (1, 2)], [], 0)
@given(st.lists(RUNS, min_size=1), st.lists(RUNS), st.integers(0, 12))
def test_trimming_forgets_runs_and_never_an_entry(kept: list[Run], bare: list[Run], most: int) -> None:
    tree: RadixTree[int] = RadixTree(most)
    for number, run in enumerate(kept):
        tree.insert(keys(run), number)
    without = tree.num_keys
    for run in bare:
        tree.insert(keys(run))
    tree.trim()
    assert tree.num_keys <= max(most, without)
    for run in kept:
        assert not run or tree.find(keys(run), len(run)).length == len(run)


def test_the_runs_used_longest_ago_are_forgotten_first() -> None:
    tree: RadixTree[int] = RadixTree(30)
    for first in range(4):
        tree.insert(np.arange(10) + 100 * first)
    tree.find(np.arange(10), 10)  # the oldest is used again
    tree.trim()
    known = [tree.find(np.arange(10) + 100 * first, 10).known for first in range(4)]
    assert known == [10, 0, 10, 10]


def test_an_arrays_owner_may_change_it_afterwards() -> None:
    tree: RadixTree[int] = RadixTree(30)
    mine = np.arange(5)
    tree.insert(mine, 1)
    mine[:] = 7
    assert tree.find(np.arange(5), 5).entry == 1


@given(RUNS, RUNS)
def test_the_common_length(a: Run, b: Run) -> None:
    assert common_len(keys(a), keys(b)) == shared(a, b) == common_len(keys(b), keys(a))
