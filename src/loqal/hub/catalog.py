"""The published sizes of the family: repositories, files and bytes, read from ``assets/catalog.json``.

The catalog says what exists and how large it is without asking anybody. What a repository really holds is asked only
when something is fetched.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FAMILY = "qwen3.5"

FAVOURITES: tuple[str, ...] = ("UD-Q4_K_XL", "UD-Q3_K_XL", "UD-Q2_K_XL", "UD-IQ2_XXS")
"""What a size without a quantization stands for: the first of these that fits the machine."""

SMALL_FAVOURITE = "Q8_0"
"""The first choice for sizes that are fast enough anyway; small models suffer most from few bits."""

SMALL_SIZES = ("0.8B", "2B")


@dataclass(frozen=True, slots=True)
class GgufFile:
    """One published GGUF file. A split one lies in a folder of its own name."""

    quant: str  # as in the file's name, for example "UD-Q4_K_XL"
    size_bytes: int
    in_folder: bool


@dataclass(frozen=True, slots=True)
class Release:
    """One published size."""

    size: str  # a key of model.sizes.SIZES
    released: str  # ISO date
    parameters: int
    context_len: int
    extended_context_len: int | None  # with YaRN, where the card says so
    thinks: bool  # unless told otherwise
    licence: str
    safetensors_repo: str
    base_repo: str | None
    gguf_repo: str
    gguf_draft_repo: str  # the same files with the draft head
    stem: str  # how the files' names begin
    files: tuple[GgufFile, ...]  # smallest first
    mmproj: Mapping[str, int | None]  # file name -> bytes, None where not known
    sampling: Mapping[str, Mapping[str, float]]  # mode -> the card's values

    @property
    def name(self) -> str:
        """For example ``qwen3.5:4b``."""
        return f"{FAMILY}:{self.size.lower()}"

    def file(self, quant: str) -> GgufFile | None:
        """The file of one quantization, however it is written; None when there is none."""
        wanted = plain_quant(quant)
        exact = [file for file in self.files if file.quant.lower() == quant.lower()]
        return next(iter(exact or [file for file in self.files if plain_quant(file.quant) == wanted]), None)


def plain_quant(quant: str) -> str:
    """A quantization's name without case and without the prefix of the dynamic ones."""
    return quant.upper().removeprefix("UD-")


@functools.cache
def releases() -> Mapping[str, Release]:
    """Every size by its label, smallest first."""
    text = (importlib.resources.files("loqal") / "assets" / "catalog.json").read_text("utf-8")
    table = json.loads(text)
    return {size: _release(size, entry, table["licence"]) for size, entry in table["sizes"].items()}


def _release(size: str, entry: Mapping[str, Any], licence: str) -> Release:
    gguf = entry["gguf"]
    return Release(
        size=size,
        released=entry["released"],
        parameters=entry["parameters"],
        context_len=entry["context"],
        extended_context_len=entry["extended_context"],
        thinks=entry["thinks"],
        licence=licence,
        safetensors_repo=entry["safetensors"]["repo"],
        base_repo=entry["base"],
        gguf_repo=gguf["repo"],
        gguf_draft_repo=entry["gguf_with_draft"]["repo"],
        stem=gguf["stem"],
        files=tuple(GgufFile(quant, file["bytes"], file["folder"]) for quant, file in gguf["files"].items()),
        mmproj=gguf["mmproj"],
        sampling=entry["sampling"],
    )


def find_size(label: str) -> str | None:
    """The size a user means: ``4b``, ``35b`` or ``35B-A3B``; None when there is none."""
    wanted = label.upper()
    for size in releases():
        if wanted in (size, size.partition("-")[0]):
            return size
    return None
