"""Which size and quantization fit a machine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loqal.errors import CapacityError
from loqal.hub import catalog
from loqal.hub.recommend import Choice, decode_bytes
from loqal.hub.recommend import choose as choose_by

GB = 10**9
MEMORY = st.integers(2 * GB, 400 * GB)
SPEED = st.floats(1, 3000)
ORDER = list(catalog.releases())


def needed_bytes(size: str | None, quant: str | None, file_bytes: int) -> int:
    """What a model takes, without asking a backend."""
    return file_bytes * 11 // 10 + 300_000_000


def choose(memory_bytes: int, read_gb_per_s: float, size: str | None = None) -> Choice:
    return choose_by(memory_bytes, read_gb_per_s, needed_bytes, size)


@given(MEMORY, SPEED)
def test_what_is_chosen_fits_and_is_fast_enough(memory: int, speed: float) -> None:
    choice = choose(memory, speed)
    file = catalog.releases()[choice.size].file(choice.quant)
    assert file is not None and file.size_bytes == choice.size_bytes
    assert needed_bytes(choice.size, choice.quant, choice.size_bytes) <= 0.8 * memory
    if choice.size != "0.8B":
        assert speed * GB * 0.5 / decode_bytes(choice.size, choice.size_bytes) >= 8
    assert choice.why


@given(MEMORY, MEMORY, SPEED, SPEED)
def test_a_better_machine_never_gets_a_smaller_model(memory: int, more: int, speed: float, faster: float) -> None:
    small, large = choose(min(memory, more), min(speed, faster)), choose(max(memory, more), max(speed, faster))
    assert ORDER.index(small.size) <= ORDER.index(large.size)


@pytest.mark.parametrize("size", ORDER)
def test_a_given_size_is_kept_as_long_as_any_file_of_it_fits(size: str) -> None:
    assert choose(1000 * GB, 100, size).size == size
    assert choose(1000 * GB, 0.001, size).size == size  # slow, but asked for
    with pytest.raises(CapacityError):
        choose(100_000_000, 100, size)


def test_less_memory_means_fewer_bits_of_a_given_size() -> None:
    sizes = [choose(memory * GB, 100, "9B").size_bytes for memory in (200, 10, 8)]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] > sizes[-1]


@pytest.mark.parametrize("size", ORDER)
def test_bytes_of_a_decode_step(size: str) -> None:
    assert 0 < decode_bytes(size, GB) <= GB
    assert (decode_bytes(size, GB) < GB / 2) == ("A" in size.partition("-")[2])  # only active experts are read
