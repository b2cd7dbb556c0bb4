"""From what a user calls a model to the file or folder it is: a path, a name of `loqal list`, or a published one."""

from __future__ import annotations

import importlib.resources
import os
from dataclasses import dataclass
from pathlib import Path

from loqal.errors import CheckpointError, InstallationError
from loqal.hub import local_models, names, resolve
from loqal.system.memory import machine_bytes

EMBEDDED = "demo"
"""The name of the model that is installed with the package."""

NAMES = (EMBEDDED,)
_SUFFIXES = (".gguf", ".safetensors")
_PATH_STARTS = ("/", "./", "../", "~", ".\\", "..\\")


@dataclass(frozen=True, slots=True)
class Found:
    """Where a model lies. ``mmproj`` is its separate vision tower, when a name stands for both."""

    path: Path
    mmproj: Path | None = None


def find(model: str | os.PathLike[str] | None, needed_bytes: resolve.NeededBytes) -> Found:
    """Where a model and its vision tower lie on this machine. Nothing is fetched.

    Args:
        model: a path, a known name, or None for the embedded model.
        needed_bytes: the memory a local model takes; asked where a name leaves open which of several is meant.

    Raises:
        CheckpointError: there is no such file or folder, or no model of this name on this machine.
        RequestError: the name is of the family, but its tag is not.
        InstallationError: the embedded model was not installed.
    """
    if model is None or model == EMBEDDED:
        return _embedded()
    path = Path(model).expanduser()
    if _exists(path):
        return Found(path)
    if isinstance(model, os.PathLike) or looks_like_path(model):
        raise CheckpointError(
            f"The file or folder {str(path)!r} does not exist.",
            f"The current folder is {os.getcwd()!r}.",
            "Check the spelling of the path.",
        )
    local = find_named(model, needed_bytes)
    return Found(local.path, local.mmproj)


def find_named(name: str, needed_bytes: resolve.NeededBytes) -> local_models.LocalModel:
    """The model on this machine that a name stands for. Arguments and errors as in ``find``."""
    models = local_models.all_models()
    local = resolve.find_local(name, machine_bytes(), needed_bytes, models)
    if local is None:
        raise resolve.unknown(name, models)
    return local


def is_absent_name(model: str | None) -> bool:
    """Whether a word is a published name under which nothing is on this machine. Raises RequestError for a bad tag."""
    if model is None or model == EMBEDDED or _exists(Path(model)) or looks_like_path(model):
        return False
    return names.looks_like_name(model) and not resolve.matching(model)


def is_model(word: str) -> bool:
    """Whether a word names a model, rather than being the beginning of a prompt."""
    return word in NAMES or looks_like_path(word) or names.looks_like_name(word) or _exists(Path(word))


def looks_like_path(word: str) -> bool:
    """Whether a word is written like a path, whether or not something is there."""
    one_line = "\n" not in word
    return one_line and (word.endswith(_SUFFIXES) or (word.startswith(_PATH_STARTS) and " " not in word))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long for a name, or holding a zero byte: a prompt, not a path
        return False


def _embedded() -> Found:
    folder = Path(str(importlib.resources.files("loqal") / "assets"))
    path, mmproj = folder / "demo.gguf", folder / "mmproj-demo.gguf"
    for file in (path, mmproj):
        if not file.is_file():
            raise InstallationError(
                "The embedded model is missing.",
                f"{str(file)!r} should be there.",
                "Install loqal again, or give the path of a model.",
            )
    return Found(path, mmproj)
