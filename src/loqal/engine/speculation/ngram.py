"""N-gram drafting: the tokens that followed the last few tokens when they occurred before."""

from __future__ import annotations

_LONGEST, _SHORTEST = 4, 2  # tokens that must agree


class NgramIndex:
    """The last position of each n-gram of one sequence."""

    def __init__(self) -> None:
        self._ends: dict[tuple[int, ...], int] = {}
        self._indexed = 0

    def propose(self, token_ids: list[int], depth: int) -> list[int]:
        """Up to ``depth`` tokens that may follow; none when the end of the sequence is new."""
        self._extend(token_ids)
        for length in range(min(_LONGEST, len(token_ids) - 1), _SHORTEST - 1, -1):
            end = self._ends.get(tuple(token_ids[-length:]))
            if end is not None:
                return self._copy(token_ids, end, depth)
        return []

    def _copy(self, token_ids: list[int], start: int, depth: int) -> list[int]:
        """The tokens from ``start`` on; a run that reaches the end repeats itself."""
        period = len(token_ids) - start
        return [token_ids[start + index % period] for index in range(depth)]

    def _extend(self, token_ids: list[int]) -> None:
        """Index everything that already has a follower."""
        for end in range(max(self._indexed, 1), len(token_ids)):
            for length in range(_SHORTEST, _LONGEST + 1):
                if end >= length:
                    self._ends[tuple(token_ids[end - length : end])] = end
        self._indexed = max(self._indexed, len(token_ids))
