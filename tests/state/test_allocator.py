"""Numbers with holders: never handed out twice, and memory that comes and goes in groups."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loqal.errors import CapacityError
from loqal.state.allocator import Allocator

SIZE = 10
STEPS = st.lists(st.tuples(st.sampled_from(["take", "share", "release", "discard"]), st.integers(0, 99)), max_size=60)


@given(STEPS, st.integers(1, 4))
def test_what_holders_see(steps: list[tuple[str, int]], group: int) -> None:
    numbers = Allocator(SIZE, "things", unit_bytes=8, group=group)
    held: list[int] = []
    resident: set[int] = set()
    for verb, choice in steps:
        if verb == "take" and len(set(held)) < SIZE:
            spare = resident - set(held)
            lowest = min(set(range(SIZE)) - resident, default=None)
            number = numbers.take()
            assert number not in held
            assert number in spare if spare else number == lowest  # touched memory first, else the lowest
            first = number // group * group
            resident |= set(range(first, min(first + group, SIZE)))
            held.append(number)
        elif verb == "take":
            with pytest.raises(CapacityError):
                numbers.take()
        elif verb in ("share", "release") and held:
            number = held[choice % len(held)]
            getattr(numbers, verb)(number)
            held.append(number) if verb == "share" else held.remove(number)
        elif verb == "discard":
            gone = numbers.discard()
            groups = {one // group for one in resident if not set(held) & set(_group(one // group, group))}
            assert sorted(gone) == (list(_group(max(groups), group)) if groups else [])
            resident -= set(gone)
        numbers.check(held)
        assert numbers.num_free == SIZE - len(set(held))
        assert numbers.num_spare == len(resident) - len(set(held))
        assert numbers.resident_bytes == 8 * len(resident)
        for number in range(SIZE):
            assert numbers.is_held(number) == (number in held)
            assert numbers.is_shared(number) == (held.count(number) > 1)
        assert numbers.holders(np.arange(SIZE)).tolist() == [held.count(number) for number in range(SIZE)]


def _group(index: int, group: int) -> range:
    return range(index * group, min((index + 1) * group, SIZE))


def test_misuse_is_noticed() -> None:
    numbers = Allocator(2, "things")
    number = numbers.take()
    numbers.release(number)
    for misuse in (numbers.release, numbers.share):
        with pytest.raises(AssertionError):
            misuse(number)
    for wrong in ([number], [0, 1]):
        with pytest.raises(AssertionError):
            numbers.check(wrong)
    assert Allocator(0, "nothing").num_free == 0
    with pytest.raises(CapacityError):
        Allocator(0, "nothing").take()
