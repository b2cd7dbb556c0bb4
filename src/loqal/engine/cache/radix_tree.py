"""Radix tree of token runs: known prefixes, and the entries at lengths of them.

Keys are token ids, or negative numbers that stand for rows of media (see ``MediaKeys``). A path from the root spells a
run; entries hang at lengths of that run. The tree is plain bookkeeping: it owns no memory of a model.

Invariants: siblings differ in their first key; an entry of a node lies in ``(start, start + len(run)]``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.int64]
Entry = TypeVar("Entry")


class Node(Generic[Entry]):
    """A run of keys between two branching points."""

    __slots__ = ("children", "entries", "lost", "parent", "run", "start", "used")

    def __init__(self, start: int, run: Keys, parent: Node[Entry] | None, used: int) -> None:
        self.start, self.run, self.parent, self.used = start, run, parent, used
        self.children: dict[int, Node[Entry]] = {}
        self.entries: dict[int, Entry] = {}  # by length
        self.lost: set[int] = set()  # lengths whose entries were evicted

    @property
    def end(self) -> int:
        """Length of the run from the root to the end of this node."""
        return self.start + len(self.run)


class Found(NamedTuple, Generic[Entry]):
    """The length of the known prefix of a run, and the deepest entry on the way."""

    known: int  # keys that agree with a remembered run
    length: int  # of the deepest entry within the limit, 0 without one
    entry: Entry | None
    was_lost: bool  # a deeper entry within the known part was there and is no more


class RadixTree(Generic[Entry]):
    """Remembered runs.

    Args:
        most_keys: about how many keys are remembered; the runs used longest ago, which keep nothing, go first.
    """

    def __init__(self, most_keys: int) -> None:
        self._most_keys = most_keys
        self._root: Node[Entry] = Node(0, np.empty(0, np.int64), None, 0)
        self._num_keys = 0
        self._clock = 0

    @property
    def num_keys(self) -> int:
        """Keys in memory."""
        return self._num_keys

    def find(self, keys: Keys, limit: int) -> Found[Entry]:
        """Walk along ``keys``; entries deeper than ``limit`` do not count."""
        self._clock += 1
        length, entry, known, lost = 0, None, 0, [0]
        for node, agreed in self._walk(keys):
            node.used = self._clock
            known = node.start + agreed
            fitting = [at for at in node.entries if length < at <= min(known, limit)]
            if fitting:
                length = max(fitting)
                entry = node.entries[length]
            lost += [at for at in node.lost if at <= min(known, limit)]
        return Found(known, length, entry, max(lost) > length)

    def insert(self, keys: Keys, entry: Entry | None = None) -> Entry | None:
        """Remember a run, with an entry at its end when one is given. Returns the entry that was there already."""
        self._clock += 1
        node, used = self._root, 0
        for node, agreed in self._walk(keys):
            node.used = self._clock
            used = node.start + agreed
            if agreed < len(node.run):
                node = self._split(node, agreed)
        if used < len(keys):
            child: Node[Entry] = Node(used, keys[used:].copy(), node, self._clock)
            node.children[int(keys[used])] = child
            self._num_keys += len(child.run)
            node = child
        if entry is None or node is self._root:
            return None
        node.lost.discard(len(keys))
        known = node.entries.get(len(keys))
        if known is None:
            node.entries[len(keys)] = entry
        return known

    def remove(self, keys: Keys) -> None:
        """Forget the entry at the end of a run, but not that it was there."""
        for node, agreed in self._walk(keys):
            if node.start + agreed == len(keys) and len(keys) in node.entries:
                del node.entries[len(keys)]
                node.lost.add(len(keys))

    def above(self, keys: Keys) -> int:
        """Length of the deepest entry of a run that lies before its end."""
        lengths = [at for node, agreed in self._walk(keys) for at in node.entries if at <= node.start + agreed]
        return max((at for at in lengths if at < len(keys)), default=0)

    def trim(self) -> None:
        """Forget old runs that keep nothing until the limit is met."""
        while self._num_keys > self._most_keys:
            bare = [node for node in self._leaves(self._root) if not node.entries]
            if not bare:
                return
            bare.sort(key=lambda node: node.used)
            for node in bare[: max(1, len(bare) // 4)]:
                assert node.parent is not None
                del node.parent.children[int(node.run[0])]
                self._num_keys -= len(node.run)

    def _walk(self, keys: Keys) -> Iterator[tuple[Node[Entry], int]]:
        """The nodes along ``keys``, and how many keys of each agree."""
        node, at = self._root, 0
        while at < len(keys):
            child = node.children.get(int(keys[at]))
            if child is None:
                return
            agreed = common_len(child.run, keys[at:])
            is_whole = agreed == len(child.run)  # asked before the caller may split the node
            yield child, agreed
            if not is_whole:
                return
            node, at = child, at + agreed

    def _split(self, node: Node[Entry], at: int) -> Node[Entry]:
        """Cut a node after ``at`` keys; the upper part is returned, the lower part keeps the identity of ``node``."""
        assert node.parent is not None and 0 < at < len(node.run)
        upper: Node[Entry] = Node(node.start, node.run[:at].copy(), node.parent, node.used)
        node.parent.children[int(node.run[0])] = upper
        node.start, node.run, node.parent = node.start + at, node.run[at:].copy(), upper
        upper.children[int(node.run[0])] = node
        for length in [length for length in node.entries if length <= node.start]:
            upper.entries[length] = node.entries.pop(length)
        upper.lost = {length for length in node.lost if length <= node.start}
        node.lost -= upper.lost
        return upper

    def _leaves(self, node: Node[Entry]) -> list[Node[Entry]]:
        found, stack = [], list(node.children.values())
        while stack:
            one = stack.pop()
            stack += one.children.values()
            if not one.children:
                found.append(one)
        return found


def common_len(a: Keys, b: Keys) -> int:
    """How many leading keys two runs share."""
    size = min(len(a), len(b))
    differs = a[:size] != b[:size]
    return int(differs.argmax()) if differs.any() else size
