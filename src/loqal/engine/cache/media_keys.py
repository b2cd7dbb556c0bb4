"""Keys of image and video rows, which take the place of token ids in the prefix cache."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from loqal.engine.cache.radix_tree import Keys

_ROWS = 1 << 32


class MediaKeys:
    """Negative keys, unique by digest and row: -1 - (index << 32) - row.

    The indices belong to this process; ``portable`` and ``localised`` translate them for files.
    """

    def __init__(self) -> None:
        self._index: dict[bytes, int] = {}
        self._digests: list[bytes] = []

    def keys(self, digest: bytes, length: int) -> Keys:
        """Keys of the rows of one span."""
        return -1 - (np.int64(self._number(digest) * _ROWS) + np.arange(length, dtype=np.int64))

    def portable(self, keys: Keys) -> tuple[Keys, list[bytes]]:
        """The same keys with indices into a list of their own, in the order of their first rows."""
        order: dict[int, int] = {}
        result = keys.copy()
        rows = np.flatnonzero(keys < 0)
        for row in rows.tolist():
            index, offset = divmod(int(-1 - keys[row]), _ROWS)
            result[row] = -1 - order.setdefault(index, len(order)) * _ROWS - offset
        return result, [self._digests[index] for index in order]

    def localised(self, keys: Keys, digests: Sequence[bytes]) -> Keys:
        """The inverse of ``portable``."""
        numbers = [self._number(digest) for digest in digests]
        result = keys.copy()
        for row in np.flatnonzero(keys < 0).tolist():
            index, offset = divmod(int(-1 - keys[row]), _ROWS)
            result[row] = -1 - numbers[index] * _ROWS - offset
        return result

    def _number(self, digest: bytes) -> int:
        if digest not in self._index:
            self._index[digest] = len(self._digests)
            self._digests.append(digest)
        return self._index[digest]
