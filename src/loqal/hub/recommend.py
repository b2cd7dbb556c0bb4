"""Which size and quantization fit a machine. Pure arithmetic over the catalog, so that it can be tested and explained.

Two limits: the weights, a context of some thousand tokens and the program itself must fit the memory with room to
spare; and reading must be fast enough for an answer to be read as it is written. The largest model within both wins.
What a model needs is the engine's own account, which callers from above hand in.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from loqal.errors import CapacityError
from loqal.hub import catalog
from loqal.model.sizes import SIZES, parameter_count

_SHARE_OF_MEMORY = 0.8  # assumption: the rest is for other programs and for the file's pages while loading
_READ_SHARE = 0.5  # assumption: the share of the measured bandwidth that a decode step reaches at least
_TOKENS_PER_S = 8.0  # assumption: somewhat faster than people read


CONTEXT_TOKENS = 8192
"""The context that a model must fit the memory with."""

NeededBytes = Callable[[str | None, str | None, int], int]
"""Bytes of memory that a published file needs with ``CONTEXT_TOKENS``: its size and quantization as the catalog names
them, None where not known, and its bytes."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A size and a quantization, and why."""

    size: str
    quant: str
    size_bytes: int
    why: str


def decode_bytes(size: str, file_bytes: int) -> float:
    """Roughly the bytes a decode step reads: all of a dense model, the active share of the experts' one."""
    counts = _counts(size)
    body = counts["text_without_embedding"] + counts["embedding"]
    return file_bytes * (counts["active"] + counts["embedding"]) / body if counts["active"] else file_bytes


@functools.cache
def _counts(size: str) -> dict[str, int]:
    return parameter_count(SIZES[size])


def choose(memory_bytes: int, read_gb_per_s: float, needed_bytes: NeededBytes, size: str | None = None) -> Choice:
    """The best size and quantization, or the best quantization of a given size.

    Raises:
        CapacityError: not even the smallest fits.
    """
    budget = memory_bytes * _SHARE_OF_MEMORY
    releases = catalog.releases()
    sizes = [size] if size else list(releases)
    best: Choice | None = None
    for label in sizes:
        release = releases[label]
        favourites = catalog.FAVOURITES
        if label in catalog.SMALL_SIZES:
            favourites = (catalog.SMALL_FAVOURITE, *favourites)
        fitting = [
            file
            for quant in favourites
            if (file := release.file(quant)) and needed_bytes(label, file.quant, file.size_bytes) <= budget
        ]
        # Go below the preferred quantization only to fit the memory, never for speed.
        enough = [file for file in fitting if file.quant in favourites[: 1 + (label in catalog.SMALL_SIZES)]]
        if size is None:  # and never to run a larger model: in few bits it is not better than a smaller one
            fitting = enough
        quick = [file for file in enough if _speed(label, file.size_bytes, read_gb_per_s) >= _TOKENS_PER_S]
        lean = [file for file in fitting if file.quant != catalog.SMALL_FAVOURITE]
        file = next(iter(quick or ((lean or fitting) if size or label == "0.8B" else [])), None)
        if file is not None:
            needed = needed_bytes(label, file.quant, file.size_bytes)
            why = _why(label, file, needed, memory_bytes, read_gb_per_s)
            best = Choice(label, file.quant, file.size_bytes, why)
    if best is None:
        smallest = sizes[0]
        needed = min(needed_bytes(smallest, file.quant, file.size_bytes) for file in releases[smallest].files)
        raise CapacityError(
            f"No published file of {smallest} fits this machine.",
            f"The one that needs least takes about {needed / 1e9:.1f} GB with a short context, "
            f"{budget / 1e9:.1f} of {memory_bytes / 1e9:.1f} GB are for the model.",
            "Raise the memory limit" + (", or choose a smaller size." if size not in (None, "0.8B") else "."),
        )
    return best


def _speed(size: str, file_bytes: int, read_gb_per_s: float) -> float:
    return read_gb_per_s * 1e9 * _READ_SHARE / decode_bytes(size, file_bytes)


def _why(size: str, file: catalog.GgufFile, needed: int, memory_bytes: int, read_gb_per_s: float) -> str:
    return (
        f"needs about {needed / 1e9:.1f} of {memory_bytes / 1e9:.1f} GB, and reading "
        f"{read_gb_per_s:.0f} GB/s gives {_speed(size, file.size_bytes, read_gb_per_s):.0f} tokens/s or more"
    )
