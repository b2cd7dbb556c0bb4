"""The logits after one hidden row, computed as far as the choice of a token needs them."""

from __future__ import annotations

import numpy as np

from ..errors import CheckpointError
from ..model.decoder import Decoder
from ..ops.interface import FloatArray, IntArray

_MOST_TRACKED = 1024  # beyond this many the whole row is cheaper than tracking the largest


class HeadLogits:
    """``sampling.Logits`` over the head. The padding of the vocabulary never appears, or is minus infinity.

    Args:
        hidden: [1 D].
        padding_ids: rows of the vocabulary without a token, ascending.
    """

    def __init__(self, decoder: Decoder, hidden: FloatArray, padding_ids: IntArray) -> None:
        self._decoder, self._hidden, self._padding_ids = decoder, hidden, padding_ids
        self._row: FloatArray | None = None

    def largest(self, k: int) -> tuple[IntArray, FloatArray]:
        """See sampling.Logits."""
        if self._row is None and k <= _MOST_TRACKED:
            all_ids, all_values = self._decoder.largest(self._hidden, k, self._padding_ids)
            ids, values = all_ids[0], all_values[0]
        else:
            ids, values, _ = self._decoder.ops.candidates(self.row(), k)
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
            self._row = self._decoder.unembed(self._hidden)[0]
            self._row[self._padding_ids] = -np.inf
        return self._row
