"""From what a user calls a model to the file or folder it is."""

from __future__ import annotations

import importlib.resources
import os
from pathlib import Path

from .errors import CheckpointError, InstallationError

EMBEDDED = "demo"
"""The name of the model that is installed with the package."""

NAMES = (EMBEDDED,)
_SUFFIXES = (".gguf", ".safetensors")
_PATH_STARTS = ("/", "./", "../", "~", ".\\", "..\\")


def locate(model: str | os.PathLike[str] | None = None) -> Path:
    """The file or folder of a model: a path, a known name, or None for the embedded model.

    Raises:
        CheckpointError: there is no such file, folder or name.
        InstallationError: the embedded model was not installed.
    """
    if model is None or model == EMBEDDED:
        return _embedded()
    path = Path(model).expanduser()
    if _exists(path):
        return path
    if isinstance(model, os.PathLike) or looks_like_path(model):
        raise CheckpointError(
            f"There is no file or folder {str(path)!r}.",
            f"The current folder is {os.getcwd()!r}.",
            "Check the spelling of the path.",
        )
    raise CheckpointError(
        f"There is no model {model!r}.",
        f"It is neither a file nor a folder nor a known name ({', '.join(NAMES)}).",
        f'Give the path of a .gguf file or a checkpoint folder. To prompt the embedded model: loqal run "{model} ..."',
    )


def is_model(word: str) -> bool:
    """Whether a word names a model, rather than being the beginning of a prompt."""
    return word in NAMES or looks_like_path(word) or _exists(Path(word))


def looks_like_path(word: str) -> bool:
    """Whether a word is written like a path, whether or not something is there."""
    one_line = "\n" not in word
    return one_line and (word.endswith(_SUFFIXES) or (word.startswith(_PATH_STARTS) and " " not in word))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long for a name, or holding a zero byte: a prompt, not a path
        return False


def _embedded() -> Path:
    path = Path(str(importlib.resources.files(__package__) / "assets" / "demo.gguf"))
    if not path.is_file():
        raise InstallationError(
            "The embedded model is missing.",
            f"{str(path)!r} should be there.",
            "Install loqal again, or give the path of a model.",
        )
    return path
