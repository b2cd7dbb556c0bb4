"""A GGUF file that is written tensor by tensor and continued where it stopped, however it stopped.

What is written first, header and sizes, follows from the order alone; so a started file belongs to the same order
exactly when its header has the same bytes. A journal says how many tensors are whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loqal.formats.table import num_bytes
from loqal.weights.gguf_writer import header_bytes
from loqal.weights.source import OutTensor

_ALIGNMENT = 32


@dataclass(frozen=True, slots=True)
class Written:
    """One tensor of the file, and what its maker says of it."""

    name: str
    notes: dict[str, Any]


def write_resumable(
    path: Path,
    metadata: dict[str, Any],
    tensors: Sequence[OutTensor],
    notes_of: Callable[[str], dict[str, Any]],
    progress: Callable[[int, int], None],
    order: str,
) -> list[Written]:
    """Write the file, or what is missing of it; it appears under ``path`` when it is whole.

    Args:
        path: of the file; ``.partial`` and ``.journal`` are added while it is written.
        metadata, tensors: as for ``gguf_writer.write_file``; a tensor's data are made when its turn comes.
        notes_of: asked after each tensor; kept in the journal.
        progress: gets the number of whole tensors, at the beginning the number kept from before, and their bytes.
        order: anything else the bytes depend on; a file begun for another order is begun again.
    """
    partial, journal = path.with_name(path.name + ".partial"), path.with_name(path.name + ".journal")
    header = header_bytes(metadata, tensors, _ALIGNMENT)
    done = _kept(partial, journal, header, order)
    end = len(header)
    for tensor in tensors[: len(done)]:
        end += _padded(num_bytes(tensor.format, tensor.shape))
    with partial.open("r+b" if done else "wb") as file:
        if not done:
            journal.unlink(missing_ok=True)
            file.write(header)
        file.truncate(end)
        file.seek(end)
        progress(len(done), end)
        for tensor in tensors[len(done) :]:
            size = num_bytes(tensor.format, tensor.shape)
            file.write(tensor.bytes_of(size))
            file.write(bytes(_padded(size) - size))
            file.flush()
            end += _padded(size)
            done.append(Written(tensor.name, notes_of(tensor.name)))
            _note(journal, done, order)
            progress(len(done), end)
        os.fsync(file.fileno())
    os.replace(partial, path)
    journal.unlink(missing_ok=True)
    return done


def _padded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _note(journal: Path, done: Sequence[Written], order: str) -> None:
    fresh = journal.with_name(journal.name + ".new")
    fresh.write_text(json.dumps({"order": order, "done": [[entry.name, entry.notes] for entry in done]}))
    os.replace(fresh, journal)


def _kept(partial: Path, journal: Path, header: bytes, order: str) -> list[Written]:
    try:
        with partial.open("rb") as file:
            if file.read(len(header)) != header:
                return []
        kept = json.loads(journal.read_text())
        return [Written(name, notes) for name, notes in kept["done"]] if kept["order"] == order else []
    except (OSError, ValueError, KeyError, TypeError):
        return []
