"""From what a user calls a model to an opened checkpoint and its tokenizer."""

from __future__ import annotations

import os
from pathlib import Path

from loqal.chat.tokens.tokenizer import Tokenizer
from loqal.hub import find as hub_find
from loqal.hub.find import Found
from loqal.hub.local_models import LocalModel
from loqal.runtime import memory_needs
from loqal.weights.load import Checkpoint, open_checkpoint

Model = str | os.PathLike[str] | None
"""A file, a folder or a known name; None is the embedded model."""


def find(model: Model = None) -> Found:
    """Where a model and its vision tower lie on this machine. Errors as in ``hub.find.find``."""
    return hub_find.find(model, memory_needs.of_local)


def locate(model: Model = None) -> Path:
    """The file or folder of a model. Errors as in ``hub.find.find``."""
    return find(model).path


def find_named(name: str) -> LocalModel:
    """The model on this machine that a name stands for. Errors as in ``hub.find.find``."""
    return hub_find.find_named(name, memory_needs.of_local)


def open_model(model: Model = None, mmproj: str | os.PathLike[str] | None = None) -> Checkpoint:
    """Open a model. ``mmproj`` is its separate vision tower, where that does not lie beside it.

    Raises:
        CheckpointError: there is no such model, or it cannot be used.
        RequestError: the name is of the family, but its tag is not.
    """
    found = find(model)
    return open_checkpoint(found.path, mmproj=found.mmproj if mmproj is None else Path(mmproj))


def tokenizer_of(checkpoint: Checkpoint) -> Tokenizer:
    """The tokenizer of a checkpoint. Raises CheckpointError."""
    if checkpoint.tokenizer_json is not None:
        return Tokenizer.from_json(checkpoint.tokenizer_json)
    return Tokenizer.from_gguf(checkpoint.metadata)
