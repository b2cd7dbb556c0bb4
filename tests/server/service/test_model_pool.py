"""The model pool, with models that are numbers of bytes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from loqal.errors import CapacityError
from loqal.server.service import model_pool as pool_module
from loqal.server.service.model_pool import ModelPool
from loqal.server.shared.errors import RefusedError
from waiting import idle_rounds

BASE = 10


@dataclass
class Machine:
    """Memory in which models of given sizes are loaded; they touch half of what they plan."""

    sizes: dict[str, int]
    limit: int
    loads: list[str] = field(default_factory=list)
    loaded: dict[str, int] = field(default_factory=dict)
    now: float = 0.0

    def resident(self) -> int:
        return BASE + sum(self.loaded.values()) // 2

    def load(self, name: str, memory_bytes: int | None) -> Any:
        limit = self.limit if memory_bytes is None else memory_bytes
        resident = self.resident()
        if resident + self.sizes[name] > limit:
            raise CapacityError(f"{name} does not fit")
        self.loads.append(name)
        self.loaded[name] = self.sizes[name]
        assert BASE + sum(self.loaded.values()) <= self.limit, "more was promised than there is"
        machine = self

        class Plan:
            process_bytes = resident
            total_bytes = resident + machine.sizes[name]
            limit_bytes = limit

        class Model:
            plan = Plan()

            def close(self) -> None:
                del machine.loaded[name]

        return Model()

    def pool(self, **more: Any) -> ModelPool:
        loaders = {name: (lambda memory, name=name: self.load(name, memory)) for name in self.sizes}
        return ModelPool(loaders, limit_bytes=None, resident=self.resident, clock=lambda: self.now, **more)


def test_models_are_loaded_once_and_stay() -> None:
    async def run() -> None:
        machine = Machine({"a": 30, "b": 30}, 100)
        pool = machine.pool()
        await asyncio.gather(*(pool.acquire(name) for name in "aabba"))
        assert sorted(machine.loads) == ["a", "b"]
        with pytest.raises(RefusedError, match="does not exist"):
            await pool.acquire("c")
        await pool.close()
        assert machine.loaded == {}

    asyncio.run(run())


def test_idle_models_make_way_the_longest_unused_first() -> None:
    async def run() -> None:
        machine = Machine({"a": 40, "b": 40, "c": 40}, 100)
        pool = machine.pool()
        for name in "abc":
            machine.now += 1
            await pool.acquire(name)
            pool.release(name)
        assert set(machine.loaded) == {"b", "c"}
        await pool.acquire("b")
        await pool.acquire("a")
        assert set(machine.loaded) == {"b", "a"}

    asyncio.run(run())


def test_a_model_in_use_is_waited_for() -> None:
    async def run() -> None:
        machine = Machine({"a": 60, "b": 60}, 100)
        pool = machine.pool()
        await pool.acquire("a")
        waiting = asyncio.ensure_future(pool.acquire("b"))
        await idle_rounds()
        assert not waiting.done() and "a" in machine.loaded
        pool.release("a")
        await waiting
        assert set(machine.loaded) == {"b"}

    asyncio.run(run())


def test_waiting_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_WAIT_S", 0.02)

    async def run() -> None:
        pool = Machine({"a": 60, "b": 60, "c": 95}, 100).pool()
        await pool.acquire("a")
        with pytest.raises(RefusedError, match="does not fit"):
            await pool.acquire("b")
        pool.release("a")
        with pytest.raises(CapacityError):
            await pool.acquire("c")
        assert await pool.acquire("b")

    asyncio.run(run())


def test_idle_models_go_after_a_while() -> None:
    async def run() -> None:
        machine = Machine({"a": 40, "b": 40}, 100)
        pool = machine.pool(unload_after_s=60)
        await pool.preload()
        assert set(machine.loaded) == {"a", "b"}
        await pool.acquire("a")
        machine.now = 61
        await pool.unload_idle()
        assert set(machine.loaded) == {"a"}
        pool.release("a")
        machine.now = 120
        await pool.unload_idle()
        assert set(machine.loaded) == {"a"}
        machine.now = 122
        await pool.unload_idle()
        assert machine.loaded == {}
        await pool.acquire("a")

    asyncio.run(run())


def test_warming_loads_what_fits() -> None:
    async def run() -> None:
        machine = Machine({"a": 40, "b": 60, "c": 40}, 100)
        await machine.pool().preload()
        assert set(machine.loaded) == {"a"}
        with pytest.raises(CapacityError):
            await Machine({"a": 95}, 100).pool().preload()

    asyncio.run(run())


def test_unloading_by_hand() -> None:
    async def run() -> None:
        machine = Machine({"a": 40}, 100)
        pool = machine.pool()
        assert not await pool.unload("a")
        await pool.acquire("a")
        with pytest.raises(RefusedError, match="cannot be unloaded"):
            await pool.unload("a")
        pool.release("a")
        assert await pool.unload("a") and machine.loaded == {}

    asyncio.run(run())
