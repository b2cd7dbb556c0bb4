"""Numbered pieces of one fixed store, handed out and counted."""

from __future__ import annotations

from ..errors import CapacityError


class Allocator:
    """Hands out the numbers 0 .. size-1, lowest first, and counts who holds each.

    Invariants: a number is either free or has at least one holder; releasing a free number is a bug and asserts.
    """

    def __init__(self, size: int, what: str) -> None:
        self.size = size
        self._what = what
        self._free = list(range(size - 1, -1, -1))
        self._holders = [0] * size

    @property
    def num_free(self) -> int:
        """Numbers nobody holds."""
        return len(self._free)

    def take(self) -> int:
        """A free number, now held once. Raises CapacityError when there is none."""
        if not self._free:
            raise CapacityError(
                f"All {self.size} {self._what} are in use.",
                "The store was sized when the model was loaded and does not grow behind your back.",
                "Wait for a running request to end, or load with a larger context or more sequences.",
            )
        number = self._free.pop()
        self._holders[number] = 1
        return number

    def share(self, number: int) -> None:
        """Count one more holder."""
        assert self._holders[number] > 0, f"{self._what} {number} is free"
        self._holders[number] += 1

    def is_shared(self, number: int) -> bool:
        """Whether more than one holder has it, so that writing needs a copy first."""
        return self._holders[number] > 1

    def release(self, number: int) -> None:
        """Count one holder less; the last one frees the number."""
        assert self._holders[number] > 0, f"{self._what} {number} was released twice"
        self._holders[number] -= 1
        if self._holders[number] == 0:
            self._free.append(number)
