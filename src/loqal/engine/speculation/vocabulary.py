"""Draft vocabulary: the rows of the head that draft tokens are chosen from, since reading all of them costs most.

Ids of a byte-level vocabulary are in the order of its merges, the frequent ones first; to these are added the ids that
requests have shown lately. A token outside cannot be drafted, which costs speed alone.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from loqal.model.decoder import Decoder
from loqal.ops.interface import FloatArray, IntArray, Weight

_FREQUENT = 32768
_MOST_SEEN = 1024
_STALE = 16  # new ids before they are taken up


class DraftVocabulary:
    """Some rows of the head."""

    def __init__(self, decoder: Decoder, padding_ids: IntArray) -> None:
        self._decoder = decoder
        self._padding = frozenset(padding_ids.tolist())
        frequent = np.arange(min(_FREQUENT, decoder.config.vocab_size), dtype=np.int32)
        self._parts: list[tuple[Weight, IntArray, IntArray]] = []
        self._add_part(frequent)
        self._num_frequent = len(frequent)
        self._seen: dict[int, None] = {}  # in the order they were shown first
        self._num_new = 0

    def show(self, token_ids: Iterable[int]) -> None:
        """Add ids of a prompt or a reply, and end ids, which may be outside the vocabulary."""
        for token_id in token_ids:
            known = self._num_frequent <= token_id < self._decoder.config.vocab_size
            if known and token_id not in self._seen and token_id not in self._padding:
                self._seen[token_id] = None
                self._num_new += 1

    def top_k(self, hidden: FloatArray, k: int) -> list[tuple[IntArray, FloatArray]]:
        """The k largest logits of each hidden row [R D] among these ids, largest first (ties: the lower id)."""
        self._take_up()
        found = []
        for weight, row_ids, excluded in self._parts:
            rows, values = self._decoder.ops.top_k(hidden, weight, k, excluded)
            found.append((row_ids[rows], values))
        merged = []
        for row in range(len(hidden)):
            ids = np.concatenate([ids[row] for ids, _ in found])
            values = np.concatenate([values[row] for _, values in found])
            order = np.lexsort((ids, -values))[:k]
            merged.append((ids[order], values[order]))
        return merged

    def _take_up(self) -> None:
        if self._num_new < (_STALE if len(self._parts) > 1 else 1):
            return
        for token_id in list(self._seen)[: max(0, len(self._seen) - _MOST_SEEN)]:
            del self._seen[token_id]
        del self._parts[1:]
        self._add_part(np.array(sorted(self._seen), np.int32))
        self._num_new = 0

    def _add_part(self, wanted: IntArray) -> None:
        weight, ids = self._decoder.ops.gather_rows(self._decoder.head, wanted)
        # Rows that came along are no candidates: the frequent ones would count twice, and padding is none.
        keep = np.isin(ids, wanted) & ~np.isin(ids, np.array(sorted(self._padding), np.int32))
        self._parts.append((weight, ids, np.flatnonzero(~keep).astype(np.int32)))
