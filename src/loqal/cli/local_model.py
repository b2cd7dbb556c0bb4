"""What the verbs about one model of this machine share."""

from __future__ import annotations

from pathlib import Path

from loqal.cli import terminal
from loqal.errors import CheckpointError
from loqal.hub import verify
from loqal.hub.local_models import LocalModel
from loqal.runtime import open_model


def named(name: str) -> LocalModel:
    """The model of a name. Raises CheckpointError and RequestError."""
    if Path(name).exists():
        raise CheckpointError(f"{name} is a path.", "This command takes names.", "See loqal list, or loqal import.")
    return open_model.find_named(name)


def verified(model: LocalModel) -> list[verify.Verdict]:
    """Compare the files of a model with their digests, and say on stderr which one is read."""
    return verify.verify(model, lambda path: terminal.print_note(f"reading {path}"))
