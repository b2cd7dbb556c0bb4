"""Which files make up a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from loqal.errors import CheckpointError, FormatError, UnsupportedError
from loqal.formats.split_files import part_of
from loqal.weights.mapped import unreadable

MAX_JSON_BYTES = 64 << 20

_ONE_MODEL = "Keep one model in a folder, or name the file to open."


def list_files(folder: Path, suffix: str) -> list[Path]:
    """The files of ``folder`` that end in ``suffix``, sorted by name."""
    try:
        return sorted(path for path in folder.iterdir() if path.name.endswith(suffix) and path.is_file())
    except OSError as error:
        raise unreadable(folder, error) from error


def two_models(where: Path, first: Path, second: Path) -> CheckpointError:
    """The error for a folder with more than one model."""
    return CheckpointError(
        f"{where} holds more than one model.", f"They are {first.name} and {second.name}.", _ONE_MODEL
    )


def parts(path: Path, count: int) -> list[Path]:
    """All files of the split set ``path`` is a part of.

    Raises:
        FormatError: the name does not say which part it is, or parts are not there.
    """
    part = part_of(path.name)
    if part is None or part.count != count:
        raise FormatError(
            f"{path} is one of {count} parts, but its name does not say which.",
            "Parts are named like model-00001-of-00003.gguf.",
            "Give the parts the names under which they were published.",
        )
    found = part.all_parts(path)
    absent = [file.name for file in found if not file.is_file()]
    if absent:
        raise FormatError(
            f"{path.parent} lacks {', '.join(absent)}.", f"The model has {count} parts.", "Fetch all parts."
        )
    return found


def safetensors_files(path: Path) -> tuple[list[Path], dict[str, str]]:
    """The safetensors files of a folder, or of the checkpoint a file belongs to; and the index, name to file name.

    The index is empty when there is none.
    """
    folder = path if path.is_dir() else path.parent
    indexes = list_files(folder, ".safetensors.index.json")
    maps = {index: _weight_map(index) for index in indexes}
    if path.is_dir() and len(indexes) > 1:
        raise two_models(folder, *indexes[:2])
    for index, weight_map in maps.items():
        names = sorted(set(weight_map.values()))
        if path.is_dir() or path.name in names:
            absent = [name for name in names if not (folder / name).is_file()]
            if absent:
                raise FormatError(
                    f"{folder} lacks {absent[0]}.", f"{index.name} lists {len(names)} files.", "Fetch all files."
                )
            return [folder / name for name in names], weight_map
    if not path.is_dir():
        part = part_of(path.name)
        return (parts(path, part.count) if part else [path]), {}
    files = list_files(folder, ".safetensors")
    part = part_of(files[0].name)
    whole = parts(files[0], part.count) if part else files[:1]
    extra = [file for file in files if file not in whole]
    if extra:
        raise two_models(folder, files[0], extra[0])
    return whole, {}


def _weight_map(index: Path) -> dict[str, str]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise _bad_index(index, "It has no weight_map.")
    for name in weight_map.values():
        if not isinstance(name, str) or not name.endswith(".safetensors") or Path(name).name != name:
            raise _bad_index(index, f"It lists {ascii(name)[:100]}, which is not a safetensors file beside it.")
    return weight_map


def _bad_index(index: Path, why: str) -> FormatError:
    return FormatError(f"{index} is not a sound index.", why, "Fetch the file again.")


def read_bytes(path: Path, limit: int = MAX_JSON_BYTES) -> bytes:
    """The bytes of a small file.

    Raises:
        FormatError: the file is larger than ``limit`` bytes.
    """
    try:
        size = path.stat().st_size
        if size > limit:
            raise FormatError(f"{path} has {size} bytes.", f"Such a file has at most {limit}.", "Fetch the file again.")
        return path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error


def read_json(path: Path) -> dict[str, Any]:
    """The table in a JSON file.

    Raises:
        FormatError: it is not JSON, or no table.
    """
    try:
        value = json.loads(read_bytes(path).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path} is not JSON.", f"{error}.", "Fetch the file again.") from None
    if not isinstance(value, dict):
        raise FormatError(f"{path} holds no JSON object.", "It must begin with a brace.", "Fetch the file again.")
    return value


def unknown_file(path: Path) -> UnsupportedError:
    """The error for a path that is no checkpoint."""
    return UnsupportedError(
        f"{path} is not a checkpoint that loqal reads.",
        "A checkpoint is a GGUF file, a safetensors file with config.json beside it, or a folder of these.",
        "Check the path.",
    )
