"""The models of a server: which there are, and handing one out for the time of a request."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from ..runtime import Runtime
from .errors import RefusedError


class Pool(Protocol):
    """Where models come from."""

    created: int  # seconds since 1970

    def names(self) -> Sequence[str]:
        """The models a request may name."""
        ...

    async def take(self, name: str) -> Runtime:
        """A model, loaded if need be. It stays until ``give_back``. Raises RefusedError (not_found) and LoqalError."""
        ...

    def give_back(self, name: str) -> None:
        """End of one ``take``."""
        ...


class LoadedPool:
    """Models that were loaded by somebody else, for tests and for embedding the server in a program."""

    def __init__(self, models: Mapping[str, Runtime]) -> None:
        self._models = dict(models)
        self.created = int(time.time())

    def names(self) -> Sequence[str]:
        """See Pool."""
        return list(self._models)

    async def take(self, name: str) -> Runtime:
        """See Pool."""
        if name not in self._models:
            raise unknown_model(name, self.names())
        return self._models[name]

    def give_back(self, name: str) -> None:
        """See Pool."""


def unknown_model(name: str, names: Sequence[str]) -> RefusedError:
    """The error of a name that is not served."""
    return RefusedError(
        "not_found", f"The model {name[:200]!r} is not served.", f"There are: {', '.join(names)}.", "Name one of these."
    )
