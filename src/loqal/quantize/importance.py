"""How much every input of a weight matters: the mean square of what passes through it, measured on texts.

Kept in a GGUF file as llama.cpp's tools write and read it: ``<tensor>.in_sum2`` [matrices cols] sums of squares,
``<tensor>.counts`` [matrices 1] how many tokens they are from. Weights of experts have one matrix an expert.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from loqal.errors import FormatError
from loqal.weights import gguf_writer
from loqal.weights.gguf import read_header
from loqal.weights.mapped import MappedFile
from loqal.weights.source import OutTensor

Floats = npt.NDArray[np.float32]


class Sums:
    """Sums of squares by the tensors' names in GGUF files."""

    def __init__(self) -> None:
        self.squares: dict[str, npt.NDArray[np.float64]] = {}  # [matrices cols]
        self.counts: dict[str, npt.NDArray[np.float64]] = {}  # [matrices]

    def add(self, name: str, x: Floats, matrix: int = 0, num_matrices: int = 1) -> None:
        """Count the rows ``x`` [T K] that passed through a weight."""
        if name not in self.squares:
            self.squares[name] = np.zeros((num_matrices, x.shape[1]))
            self.counts[name] = np.zeros(num_matrices)
        self.squares[name][matrix] += np.einsum("tk,tk->k", x, x, dtype=np.float64)
        self.counts[name][matrix] += len(x)

    def means(self) -> dict[str, Floats]:
        """The mean squares, [matrices cols]. A matrix that nothing passed through gets the mean of the others."""
        found = {}
        for name, squares in self.squares.items():
            counts = self.counts[name][:, None]
            mean = squares.sum(0) / max(1.0, counts.sum())
            found[name] = np.where(counts > 0, squares / np.maximum(counts, 1), mean).astype(np.float32)
        return found


def write(path: Path, sums: Sums, metadata: Mapping[str, Any]) -> Path:
    """Write the sums as an importance file and return ``path``."""
    tensors = []
    for name in sums.squares:
        squares, counts = sums.squares[name].astype(np.float32), sums.counts[name].astype(np.float32)[:, None]
        tensors.append(OutTensor(f"{name}.in_sum2", "F32", squares.shape, squares.tobytes()))
        tensors.append(OutTensor(f"{name}.counts", "F32", counts.shape, counts.tobytes()))
    gguf_writer.write_file(path, {"general.type": "imatrix", **metadata}, tensors)
    return path


def read(path: Path) -> dict[str, Floats]:
    """The mean squares by tensor, float32 [matrices cols].

    Raises:
        CheckpointError: the file cannot be read, or is not an importance file.
    """
    file = MappedFile(path)
    try:
        header = read_header(file.view, str(path))
        stored = {}
        for entry in header.tensors:
            if entry.format == "F32":
                values = file.array(entry.offset, entry.size_bytes).view(np.float32)
                stored[entry.name] = values.reshape(-1, entry.shape[-1]).copy()
    finally:
        file.close()
    if header.metadata.get("general.type") != "imatrix":
        raise FormatError(
            f"{path} is not an importance file.",
            "Its general.type is not imatrix.",
            "Make one: loqal imatrix MODEL --text FILE",
        )
    sums = Sums()
    for name, values in stored.items():
        if not name.endswith(".in_sum2"):
            continue
        tensor = name.removesuffix(".in_sum2")
        counts = stored.get(f"{tensor}.counts")
        if counts is None or counts.size != len(values) or not np.isfinite(values).all() or (values < 0).any():
            raise FormatError(
                f"{path} is broken.",
                f"{name} does not fit its counts, or holds values that are not sums of squares.",
                "Compute the importance again: loqal imatrix MODEL --text FILE",
            )
        sums.squares[tensor], sums.counts[tensor] = values.astype(np.float64), counts.reshape(-1).astype(np.float64)
    return sums.means()
