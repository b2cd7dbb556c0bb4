"""Waiting for something that another thread, process or task does: for as long as it takes, and no longer."""

from __future__ import annotations

import asyncio
import selectors
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")

PATIENCE_S = 30.0
"""After so long something will not happen any more."""

_STEP_S = 0.001


def wait_until(holds: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    """Return as soon as a condition holds. Fails when it does not come to."""
    deadline = time.monotonic() + patience_s
    pause = threading.Event()  # never set: its timeout is a pause in which others run
    while not holds():
        assert time.monotonic() < deadline, "what was waited for did not happen"
        pause.wait(_STEP_S)


async def wait_until_async(holds: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    """The same while an event loop goes on."""
    async with asyncio.timeout(patience_s):
        while not holds():
            await asyncio.sleep(0)


def run_all(*targets: Callable[[], object]) -> None:
    """Run functions at the same time, each on a thread of its own, and raise what one of them raises."""
    failures: list[BaseException] = []

    def run(target: Callable[[], object]) -> None:
        try:
            target()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(target,)) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    if failures:
        raise failures[0]


async def idle_rounds(rounds: int = 50) -> None:
    """Let everything that can go on in the event loop go on."""
    for _ in range(rounds):
        await asyncio.sleep(0)


class _JumpingSelector(selectors.DefaultSelector):
    """Does not wait for time to pass: it passes."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0 if timeout is not None else PATIENCE_S)
        if not found:
            assert timeout is not None, "nothing more will happen"
            self.now += timeout
        return found


class _JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop without threads in which waiting takes no time."""

    def __init__(self) -> None:
        self._clock = _JumpingSelector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now


def run_in_no_time(work: Coroutine[Any, Any, Result]) -> Result:
    """``asyncio.run`` on a clock that jumps: what sleeps for a minute is over at once, in the same order."""
    with asyncio.Runner(loop_factory=_JumpingLoop) as runner:
        return runner.run(work)
