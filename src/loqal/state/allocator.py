"""Reference-counted allocator of the numbered units of a fixed pool."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from loqal.errors import CapacityError
from loqal.ops.interface import IntArray


class Allocator:
    """Allocates the numbers 0 .. size-1 and counts the holders of each.

    Memory comes and goes in groups of consecutive numbers, as large as the system's pages make them. Once one number of
    a group was handed out, all are *resident* until ``discard`` forgets the group. Resident numbers are handed out
    first, else the lowest.

    Invariants: a number is either free or has at least one holder; releasing a free number is a bug and asserts.

    Args:
        unit_bytes: memory of one number once it was touched.
        group: numbers that share memory.
    """

    def __init__(self, size: int, what: str, unit_bytes: int = 0, group: int = 1) -> None:
        self.size, self.unit_bytes, self.group = size, unit_bytes, group
        self._what = what
        self._fresh = list(range(size - 1, -1, -1))
        self._spare: list[int] = []  # free and resident
        self._holders = np.zeros(size, np.int32)

    @property
    def num_free(self) -> int:
        """How many numbers are free."""
        return len(self._fresh) + len(self._spare)

    @property
    def num_spare(self) -> int:
        """Free numbers whose memory was touched already."""
        return len(self._spare)

    @property
    def resident_bytes(self) -> int:
        """Memory of all numbers that were touched."""
        return (self.size - len(self._fresh)) * self.unit_bytes

    def take(self) -> int:
        """A free number, now held once. Raises CapacityError when there is none."""
        if not self.num_free:
            raise CapacityError(
                f"All {self.size} {self._what} are in use.",
                "Their number was fixed when the model was loaded.",
                "Wait for a running request to end, or load the model with a larger context_len or max_sequences.",
            )
        if not self._spare:
            last = self._fresh[-1] // self.group
            while self._fresh and self._fresh[-1] // self.group == last:
                self._spare.append(self._fresh.pop())
            self._spare.reverse()
        number = self._spare.pop()
        self._holders[number] = 1
        return number

    def discard(self) -> list[int]:
        """Forget one group of spare numbers, whose memory can then be released; empty when there is none."""
        groups: dict[int, list[int]] = {}
        for number in self._spare:
            groups.setdefault(number // self.group, []).append(number)
        for index in sorted(groups, reverse=True):
            numbers = sorted(groups[index], reverse=True)
            if len(numbers) == min(self.group, self.size - index * self.group):
                self._spare = [number for number in self._spare if number // self.group != index]
                self._fresh = sorted([*self._fresh, *numbers], reverse=True)
                return numbers
        return []

    def share(self, number: int) -> None:
        """Count one more holder."""
        assert self._holders[number] > 0, f"{self._what} {number} is free"
        self._holders[number] += 1

    def is_held(self, number: int) -> bool:
        """Whether a number has a holder."""
        return bool(self._holders[number] > 0)

    def is_shared(self, number: int) -> bool:
        """Whether more than one holder has it, so that writing needs a copy first."""
        return bool(self._holders[number] > 1)

    def holders(self, numbers: npt.NDArray[np.int64]) -> IntArray:
        """How many hold each of some numbers."""
        return self._holders[numbers]

    def release(self, number: int) -> None:
        """Count one holder less; the last one frees the number."""
        assert self._holders[number] > 0, f"{self._what} {number} was released twice"
        self._holders[number] -= 1
        if self._holders[number] == 0:
            self._spare.append(number)

    def check(self, held: list[int]) -> None:
        """Assert that exactly the holders of ``held`` exist, each number once per holder."""
        expected = np.bincount(np.array(held, np.int64), minlength=self.size)
        wrong = np.flatnonzero(expected != self._holders)
        assert not len(wrong), f"{self._what} {wrong[:8].tolist()} are held {self._holders[wrong[:8]].tolist()} times"
        free = sorted(self._fresh + self._spare)
        assert free == np.flatnonzero(self._holders == 0).tolist(), f"the free list of {self._what} is wrong"
