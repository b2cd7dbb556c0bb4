"""Logits of hidden rows, computed lazily: the top k, or whole rows when the choice of a token needs them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from loqal.errors import CheckpointError
from loqal.model.decoder import Decoder
from loqal.ops.interface import FloatArray, IntArray

_MOST_TRACKED = 1024  # beyond this many the whole row is cheaper than tracking the largest
_WHOLE_ROWS = 8  # computed in one pass over the head, whether or not all of them are asked for

Largest = tuple[IntArray, FloatArray]


class WholeRows:
    """All logits [R V] after some hidden rows, computed together when the first of them is asked for.

    Args:
        hidden: [N D], of which ``rows`` are meant.
    """

    def __init__(self, decoder: Decoder, hidden: FloatArray, rows: Sequence[int]) -> None:
        self._decoder, self._hidden, self._rows = decoder, hidden, rows
        self._logits: FloatArray | None = None

    def get(self, row: int) -> FloatArray:
        """The logits [V] after row ``row`` of ``hidden``."""
        if self._logits is None:
            self._logits = self._decoder.unembed(np.ascontiguousarray(self._hidden[self._rows]))
        logits: FloatArray = self._logits[self._rows.index(row)]
        return logits


class HeadLogits:
    """``sampling.Logits`` over the head. The padding of the vocabulary never appears, or is minus infinity.

    Args:
        hidden: [N D]; ``row`` of it is meant.
        padding_ids: rows of the vocabulary without a token, ascending.
        whole: the rows that are computed together with this one.
        known: some of the largest logits, computed already.
    """

    def __init__(
        self,
        decoder: Decoder,
        hidden: FloatArray,
        row: int,
        padding_ids: IntArray,
        whole: WholeRows,
        known: Largest | None = None,
    ) -> None:
        self._decoder, self._hidden, self._index, self._padding_ids = decoder, hidden, row, padding_ids
        self._whole, self._known = whole, known
        self._row: FloatArray | None = None

    def top_k(self, k: int) -> Largest:
        """See sampling.Logits."""
        if self._row is not None or k > _MOST_TRACKED:
            ids, values, _ = self._decoder.ops.candidates(self.row(), k)
        else:
            if self._known is None or len(self._known[0]) < k:
                all_ids, all_values = self._decoder.top_k(
                    self._hidden[self._index : self._index + 1], k, self._padding_ids
                )
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
            self._row = self._whole.get(self._index)
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
    whole = {row: WholeRows(decoder, hidden, [row]) for row in known}
    others = [row for row in range(len(enough)) if row not in known]
    for first in range(0, len(others), _WHOLE_ROWS):
        rows = others[first : first + _WHOLE_ROWS]
        whole |= dict.fromkeys(rows, WholeRows(decoder, hidden, rows))
    return [HeadLogits(decoder, hidden, row, padding_ids, whole[row], known.get(row)) for row in range(len(enough))]
