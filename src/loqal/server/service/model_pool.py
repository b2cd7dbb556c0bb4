"""The models of a server within one memory limit: loaded on demand, unloaded when idle or when another needs memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from loqal.errors import CapacityError, LoqalError
from loqal.runtime.runtime import Runtime
from loqal.server.shared.errors import RefusedError

_WAIT_S = 60.0  # for a model in use to become idle


class Pool(Protocol):
    """The interface to the served models."""

    created: int  # seconds since 1970

    def names(self) -> Sequence[str]:
        """The names of the served models."""
        ...

    def loaded(self) -> Mapping[str, Runtime]:
        """The models in memory now."""
        ...

    async def acquire(self, name: str) -> Runtime:
        """A model, loaded if necessary, which stays in memory until ``release``. Raises RefusedError and LoqalError."""
        ...

    def release(self, name: str) -> None:
        """End the use that one ``acquire`` began."""
        ...

    async def unload(self, name: str) -> bool:
        """Unload a model; whether it was loaded. Raises RefusedError while it is in use."""
        ...

    async def preload(self) -> None:
        """Load the models that fit, the first in any case. Raises LoqalError."""
        ...

    async def unload_idle(self) -> None:
        """Unload models that have been idle for too long. Called periodically."""
        ...

    async def close(self) -> None:
        """Unload all models."""
        ...


@dataclass(slots=True)
class _ModelSlot:
    """One model, loaded or not."""

    load: Callable[[int | None], Runtime]
    runtime: Runtime | None = None
    num_users: int = 0
    used_at: float = 0.0

    @property
    def committed_bytes(self) -> int:
        """The memory its plan adds to the process, in bytes."""
        return 0 if self.runtime is None else self.runtime.plan.total_bytes - self.runtime.plan.process_bytes


class ModelPool:
    """Loads models on demand, one at a time.

    Args:
        loaders: by name, a function that loads a model within a memory limit of the process in bytes, or None.
        limit_bytes: the memory limit of the process; None for the limit that the first model's plan finds.
        resident: returns the resident memory of the process in bytes.
        unload_after_s: idle seconds after which a model is unloaded; 0 never unloads it.
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
        self._slots = {name: _ModelSlot(load) for name, load in loaders.items()}
        self._limit_bytes, self._unload_after_s = limit_bytes, unload_after_s
        self._resident, self._clock = resident, clock
        self._base_bytes = 0  # memory of the process without models
        self._changing = asyncio.Lock()
        self._released = asyncio.Event()
        self.created = int(time.time())

    def names(self) -> Sequence[str]:
        """See Pool."""
        return list(self._slots)

    def loaded(self) -> Mapping[str, Runtime]:
        """See Pool."""
        return {name: slot.runtime for name, slot in self._slots.items() if slot.runtime is not None}

    async def acquire(self, name: str) -> Runtime:
        """See Pool."""
        slot = self._slots.get(name)
        if slot is None:
            raise unknown_model(name, self.names())
        slot.num_users += 1
        try:
            if slot.runtime is None:
                async with self._changing:
                    if slot.runtime is None:
                        slot.runtime = await self._load(slot)
            return slot.runtime
        except BaseException:
            self.release(name)
            raise

    def release(self, name: str) -> None:
        """See Pool."""
        slot = self._slots[name]
        slot.num_users -= 1
        slot.used_at = self._clock()
        self._released.set()

    async def unload(self, name: str) -> bool:
        """See Pool."""
        slot = self._slots.get(name)
        if slot is None:
            raise unknown_model(name, self.names())
        async with self._changing:
            if slot.num_users:
                raise RefusedError(
                    "conflict",
                    f"The model {name} cannot be unloaded now.",
                    f"It is in use; requests in progress: {slot.num_users}.",
                    "Send the request again later.",
                )
            was_loaded = slot.runtime is not None
            await self._unload(slot)
        return was_loaded

    async def preload(self) -> None:
        """See Pool."""
        for index, (name, slot) in enumerate(self._slots.items()):
            try:
                if index:  # only if it fits beside the models that are loaded
                    slot.runtime = self._entered(await asyncio.to_thread(slot.load, self._allowance()))
                else:
                    await self.acquire(name)
                    self.release(name)
            except CapacityError:
                if not index:
                    raise
                return
            slot.used_at = self._clock()

    async def unload_idle(self) -> None:
        """See Pool."""
        if not self._unload_after_s:
            return
        async with self._changing:
            for slot in self._idle():
                if self._clock() - slot.used_at >= self._unload_after_s:
                    await self._unload(slot)

    async def close(self) -> None:
        """See Pool."""
        for slot in self._slots.values():
            await self._unload(slot)

    async def _load(self, slot: _ModelSlot) -> Runtime:
        """Load a model, unloading idle models if it does not fit otherwise."""
        while True:
            self._released.clear()
            try:
                runtime = await asyncio.to_thread(slot.load, self._allowance())
                return self._entered(runtime)
            except CapacityError as error:
                idle = sorted(self._idle(), key=lambda other: other.used_at)
                if idle:
                    await self._unload(idle[0])
                elif any(other.runtime is not None for other in self._slots.values()):
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
                await self._released.wait()
        except TimeoutError:
            raise RefusedError(
                "overloaded",
                error.what,
                "The models in memory are in use.",
                "Send the request again later.",
                retry_s=_WAIT_S,
            ) from error

    def _allowance(self) -> int | None:
        """The memory limit of the process for loading one more model.

        A model's plan starts from resident memory. Loaded models have not yet touched all memory of their plans; that
        part is reserved for them.
        """
        committed = sum(slot.committed_bytes for slot in self._slots.values())
        if self._limit_bytes is None or not committed:
            return self._limit_bytes
        untouched = max(0, self._base_bytes + committed - self._resident())
        return max(1, self._limit_bytes - untouched)

    def _idle(self) -> list[_ModelSlot]:
        return [slot for slot in self._slots.values() if slot.runtime is not None and not slot.num_users]

    async def _unload(self, slot: _ModelSlot) -> None:
        runtime, slot.runtime = slot.runtime, None
        if runtime is not None:
            await asyncio.to_thread(runtime.close)


def unknown_model(name: str, names: Sequence[str]) -> RefusedError:
    """The error for a name that is not served."""
    return RefusedError(
        "not_found",
        f"The model {name[:200]!r} does not exist.",
        f"This server has: {', '.join(names)}.",
        "Send one of these names as the model.",
    )
