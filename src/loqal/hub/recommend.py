"""Which size and quantization fit a machine. Pure arithmetic over the catalog, so that it can be tested and explained.

Two limits: the weights, a context of some thousand tokens and the program itself must fit the memory with room to
spare; and reading must be fast enough for an answer to be read as it is written. The largest model within both wins.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from loqal.errors import CapacityError
from loqal.hub import catalog
from loqal.model.sizes import SIZES, parameter_count

_SHARE_OF_MEMORY = 0.7  # a model may take; the rest is for others and for the file's pages while loading
_PROGRAM_BYTES = 200 << 20
_CONTEXT_TOKENS = 8192
_READ_SHARE = 0.5  # of the measured bandwidth that a decode step reaches at least
_TOKENS_PER_S = 8.0  # somewhat faster than people read


@dataclass(frozen=True, slots=True)
class Choice:
    """A size and a quantization, and why."""

    size: str
    quant: str
    size_bytes: int
    why: str


def needed_bytes(size: str, file_bytes: int, context_len: int = _CONTEXT_TOKENS) -> int:
    """Roughly what a model takes in memory; the plan says it exactly."""
    config = SIZES[size]
    values = config.layers.count("attention") * 2 * config.num_kv_heads * config.head_dim
    shape = config.delta_shape
    state = config.layers.count("delta") * shape.num_value_heads * shape.key_dim * shape.value_dim * 4
    return int(file_bytes * 1.06) + context_len * values * 2 + state + _PROGRAM_BYTES


def decode_bytes(size: str, file_bytes: int) -> float:
    """Roughly the bytes a decode step reads: all of a dense model, the active share of the experts' one."""
    counts = _counts(size)
    body = counts["text_without_embedding"] + counts["embedding"]
    return file_bytes * (counts["active"] + counts["embedding"]) / body if counts["active"] else file_bytes


@functools.cache
def _counts(size: str) -> dict[str, int]:
    return parameter_count(SIZES[size])


def choose(memory_bytes: int, read_gb_per_s: float, size: str | None = None) -> Choice:
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
            if (file := release.file(quant)) and needed_bytes(label, file.size_bytes) <= budget
        ]
        # Fewer bits than enough are for want of memory, never for speed.
        enough = [file for file in fitting if file.quant in favourites[: 1 + (label in catalog.SMALL_SIZES)]]
        if size is None:  # nor is a larger model in few bits an improvement on a smaller one in enough
            fitting = enough
        quick = [file for file in enough if _speed(label, file.size_bytes, read_gb_per_s) >= _TOKENS_PER_S]
        lean = [file for file in fitting if file.quant != catalog.SMALL_FAVOURITE]
        file = next(iter(quick or ((lean or fitting) if size or label == "0.8B" else [])), None)
        if file is not None:
            best = Choice(label, file.quant, file.size_bytes, _why(label, file, memory_bytes, read_gb_per_s))
    if best is None:
        smallest = sizes[0]
        least = releases[smallest].files[0]
        raise CapacityError(
            f"No published file of {smallest} fits this machine.",
            f"The smallest takes about {needed_bytes(smallest, least.size_bytes) / 1e9:.1f} GB with a short context, "
            f"{budget / 1e9:.1f} of {memory_bytes / 1e9:.1f} GB are for the model.",
            "Raise the memory limit" + (", or choose a smaller size." if size not in (None, "0.8B") else "."),
        )
    return best


def _speed(size: str, file_bytes: int, read_gb_per_s: float) -> float:
    return read_gb_per_s * 1e9 * _READ_SHARE / decode_bytes(size, file_bytes)


def _why(size: str, file: catalog.GgufFile, memory_bytes: int, read_gb_per_s: float) -> str:
    return (
        f"needs about {needed_bytes(size, file.size_bytes) / 1e9:.1f} of {memory_bytes / 1e9:.1f} GB, and reading "
        f"{read_gb_per_s:.0f} GB/s gives {_speed(size, file.size_bytes, read_gb_per_s):.0f} tokens/s or more"
    )
