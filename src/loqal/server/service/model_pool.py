"""The models of a server under one plan of memory: loaded when asked for, unloaded when idle or in the way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from loqal.errors import CapacityError, LoqalError
from loqal.runtime.runtime import Runtime
from loqal.server.shared.errors import RefusedError

_WAIT_S = 60.0  # for a model that is in use to become free


class Pool(Protocol):
    """Where models come from."""

    created: int  # seconds since 1970

    def names(self) -> Sequence[str]:
        """The models a request may name."""
        ...

    def loaded(self) -> Mapping[str, Runtime]:
        """Those that are in memory now."""
        ...

    async def take(self, name: str) -> Runtime:
        """A model, loaded if need be. It stays until ``give_back``. Raises RefusedError and LoqalError."""
        ...

    def give_back(self, name: str) -> None:
        """End of one ``take``."""
        ...

    async def unload(self, name: str) -> bool:
        """Take a model out of memory; whether it was there. Raises RefusedError while it is in use."""
        ...

    async def warm(self) -> None:
        """Load what fits, the first in any case. Raises LoqalError."""
        ...

    async def tidy(self) -> None:
        """Unload what nobody used for too long. Called now and then."""
        ...

    async def close(self) -> None:
        """Unload everything."""
        ...


@dataclass(slots=True)
class _ModelSlot:
    """One model: in memory or not."""

    load: Callable[[int | None], Runtime]
    runtime: Runtime | None = None
    num_users: int = 0
    used_at: float = 0.0

    @property
    def committed_bytes(self) -> int:
        """What it was granted beyond the process without it."""
        return 0 if self.runtime is None else self.runtime.plan.total_bytes - self.runtime.plan.process_bytes


class ModelPool:
    """Loads models on demand, one at a time.

    Args:
        loaders: by name, what loads a model within so many bytes of the process; None: within all.
        limit_bytes: most memory of the process; None for the limit that the first model finds.
        resident: bytes of the process now.
        unload_after_s: a model that nobody used for so long goes; 0 keeps it.
    """

    def __init__(
        self,
        loaders: Mapping[str, Callable[[int | None], Runtime]],
        *,
        limit_bytes: int | None,
        resident: Callable[[], int],
        unload_after_s: float = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._places = {name: _ModelSlot(load) for name, load in loaders.items()}
        self._limit_bytes, self._unload_after_s = limit_bytes, unload_after_s
        self._resident, self._clock = resident, clock
        self._base_bytes = 0  # of the process without models
        self._changing = asyncio.Lock()
        self._left = asyncio.Event()  # somebody gave a model back
        self.created = int(time.time())

    def names(self) -> Sequence[str]:
        """See Pool."""
        return list(self._places)

    def loaded(self) -> Mapping[str, Runtime]:
        """See Pool."""
        return {name: place.runtime for name, place in self._places.items() if place.runtime is not None}

    async def take(self, name: str) -> Runtime:
        """See Pool."""
        place = self._places.get(name)
        if place is None:
            raise unknown_model(name, self.names())
        place.num_users += 1
        try:
            if place.runtime is None:
                async with self._changing:
                    if place.runtime is None:
                        place.runtime = await self._load(place)
            return place.runtime
        except BaseException:
            self.give_back(name)
            raise

    def give_back(self, name: str) -> None:
        """See Pool."""
        place = self._places[name]
        place.num_users -= 1
        place.used_at = self._clock()
        self._left.set()

    async def unload(self, name: str) -> bool:
        """See Pool."""
        place = self._places.get(name)
        if place is None:
            raise unknown_model(name, self.names())
        async with self._changing:
            if place.num_users:
                raise RefusedError("conflict", f"{name} is in use.", f"{place.num_users} requests use it.", "Later.")
            was_there = place.runtime is not None
            await self._unload(place)
        return was_there

    async def warm(self) -> None:
        """See Pool."""
        for index, (name, place) in enumerate(self._places.items()):
            try:
                if index:  # only what fits beside those that are loaded
                    place.runtime = self._entered(await asyncio.to_thread(place.load, self._allowance()))
                else:
                    await self.take(name)
                    self.give_back(name)
            except CapacityError:
                if not index:
                    raise
                return
            place.used_at = self._clock()

    async def tidy(self) -> None:
        """See Pool."""
        if not self._unload_after_s:
            return
        async with self._changing:
            for place in self._idle():
                if self._clock() - place.used_at >= self._unload_after_s:
                    await self._unload(place)

    async def close(self) -> None:
        """See Pool."""
        for place in self._places.values():
            await self._unload(place)

    async def _load(self, place: _ModelSlot) -> Runtime:
        """Load a model, at the cost of idle ones where it has to be."""
        while True:
            self._left.clear()
            try:
                runtime = await asyncio.to_thread(place.load, self._allowance())
                return self._entered(runtime)
            except CapacityError as error:
                idle = sorted(self._idle(), key=lambda other: other.used_at)
                if idle:
                    await self._unload(idle[0])
                elif any(other.runtime is not None for other in self._places.values()):
                    await self._wait(error)
                else:
                    raise

    def _entered(self, runtime: Runtime) -> Runtime:
        if not self.loaded():
            self._base_bytes = runtime.plan.process_bytes
        self._limit_bytes = self._limit_bytes or runtime.plan.limit_bytes
        return runtime

    async def _wait(self, error: LoqalError) -> None:
        try:
            async with asyncio.timeout(_WAIT_S):
                await self._left.wait()
        except TimeoutError:
            raise RefusedError(
                "overloaded", error.what, "Other models are in use.", "Later.", retry_s=_WAIT_S
            ) from error

    def _allowance(self) -> int | None:
        """What the process may hold while one more model is loaded.

        The plan of a model begins with what is resident. Others were promised more than they touched so far, and that
        is kept back for them.
        """
        committed = sum(place.committed_bytes for place in self._places.values())
        if self._limit_bytes is None or not committed:
            return self._limit_bytes
        untouched = max(0, self._base_bytes + committed - self._resident())
        return max(1, self._limit_bytes - untouched)

    def _idle(self) -> list[_ModelSlot]:
        return [place for place in self._places.values() if place.runtime is not None and not place.num_users]

    async def _unload(self, place: _ModelSlot) -> None:
        runtime, place.runtime = place.runtime, None
        if runtime is not None:
            await asyncio.to_thread(runtime.close)


def unknown_model(name: str, names: Sequence[str]) -> RefusedError:
    """The error of a name that is not served."""
    return RefusedError(
        "not_found", f"The model {name[:200]!r} is not served.", f"There are: {', '.join(names)}.", "Name one of these."
    )
