"""The logits after hidden rows, computed as far as the choice of tokens needs them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from loqal.errors import CheckpointError
from loqal.model.decoder import Decoder
from loqal.ops.interface import FloatArray, IntArray

_MOST_TRACKED = 1024  # beyond this many the whole row is cheaper than tracking the largest
_WHOLE_ROWS = 8  # computed in one pass over the head, whether or not all of them are asked for

Largest = tuple[IntArray, FloatArray]


class HeadLogits:
    """``sampling.Logits`` over the head. The padding of the vocabulary never appears, or is minus infinity.

    Args:
        hidden: [1 D].
        padding_ids: rows of the vocabulary without a token, ascending.
        known: some of the largest logits, computed already.
        batch: computes the whole row together with others'.
    """

    def __init__(
        self,
        decoder: Decoder,
        hidden: FloatArray,
        padding_ids: IntArray,
        known: Largest | None = None,
        batch: Callable[[], FloatArray] | None = None,
    ) -> None:
        self._decoder, self._hidden, self._padding_ids = decoder, hidden, padding_ids
        self._known, self._batch = known, batch
        self._row: FloatArray | None = None

    def top_k(self, k: int) -> Largest:
        """See sampling.Logits."""
        if self._row is not None or k > _MOST_TRACKED:
            ids, values, _ = self._decoder.ops.candidates(self.row(), k)
        else:
            if self._known is None or len(self._known[0]) < k:
                all_ids, all_values = self._decoder.top_k(self._hidden, k, self._padding_ids)
                self._known = all_ids[0], all_values[0]
            ids, values = self._known[0][:k], self._known[1][:k]
        if not np.isfinite(values[0]):
            raise CheckpointError(
                "The model computed no finite logit.",
                "Its weights are damaged, or they overflow in float32.",
                "Fetch the file again; if that does not help, report it.",
            )
        return ids, values

    def row(self) -> FloatArray:
        """See sampling.Logits."""
        if self._row is None:
            self._row = self._decoder.unembed(self._hidden)[0] if self._batch is None else self._batch()
            self._row[self._padding_ids] = -np.inf
        return self._row


def of_rows(
    decoder: Decoder, hidden: FloatArray, enough: Sequence[int | None], padding_ids: IntArray
) -> list[HeadLogits]:
    """The logits after hidden rows [R D]. The largest ones that the choices need come from one pass over the head.

    Args:
        enough: how many of the largest logits of each row are needed; None for all.
    """
    tracked = [row for row, k in enumerate(enough) if k is not None and k <= _MOST_TRACKED]
    known: dict[int, Largest] = {}
    if tracked:
        most = max(k for k in enough if k is not None and k <= _MOST_TRACKED)
        ids, values = decoder.top_k(np.ascontiguousarray(hidden[tracked]), most, padding_ids)
        known = {row: (ids[i], values[i]) for i, row in enumerate(tracked)}
    whole = [row for row in range(len(enough)) if row not in known]
    batches: dict[int, Callable[[], FloatArray]] = {}
    for first in range(0, len(whole), _WHOLE_ROWS):
        batches |= _together(decoder, hidden, whole[first : first + _WHOLE_ROWS])
    return [
        HeadLogits(decoder, hidden[row : row + 1], padding_ids, known.get(row), batches.get(row))
        for row in range(len(enough))
    ]


def _together(decoder: Decoder, hidden: FloatArray, rows: Sequence[int]) -> dict[int, Callable[[], FloatArray]]:
    """For each of some rows, what finds its logits: the first to be asked for brings all of them."""
    waiting: dict[int, FloatArray] = {}

    def take(row: int) -> FloatArray:
        if not waiting:
            waiting.update(zip(rows, decoder.unembed(np.ascontiguousarray(hidden[rows])), strict=True))
        return waiting[row]

    return {row: (lambda row=row: take(row)) for row in rows}  # type: ignore[misc]
