"""A lock that is handed over in the order in which it was asked for."""

from __future__ import annotations

import threading

import pytest

from loqal.ops.fair_lock import FairLock
from waiting import run_all, wait_until


class Asker(threading.Thread):
    """Takes the lock, says so, and holds it until it may go on."""

    def __init__(self, lock: FairLock, order: list[int], number: int) -> None:
        super().__init__(daemon=True)
        self._lock, self._order, self._number = lock, order, number
        self.may_leave = threading.Event()

    def run(self) -> None:
        with self._lock:
            self._order.append(self._number)
            self.may_leave.wait(30)


def waiting_for(lock: FairLock, asker: Asker, count: int) -> None:
    asker.start()
    wait_until(lambda: _num_waiting(lock) == count)


def _num_waiting(lock: FairLock) -> int:
    """Threads that stand in the queue. There is no other way to know that one has asked and not got it."""
    return len(lock._waiting)


def test_first_come_first_served() -> None:
    lock, order = FairLock(), list[int]()
    askers = [Asker(lock, order, number) for number in range(6)]
    with lock:
        for count, asker in enumerate(askers, 1):
            waiting_for(lock, asker, count)
        assert order == []
    for count, asker in enumerate(askers, 1):
        wait_until(lambda count=count: len(order) == count)  # type: ignore[misc]
        assert order == list(range(count))
        asker.may_leave.set()
        asker.join(30)


def test_who_leaves_and_asks_again_stands_behind() -> None:
    lock, order = FairLock(), list[int]()
    asker = Asker(lock, order, 1)
    asker.may_leave.set()
    with lock:
        waiting_for(lock, asker, 1)
    with lock:
        assert order == [1]
    asker.join(30)


def test_one_holder_at_a_time() -> None:
    lock, inside, most = FairLock(), [0], [0]

    def work() -> None:
        for _ in range(200):
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                inside[0] -= 1

    run_all(*[work] * 8)
    assert most == [1] and inside == [0]


def test_an_error_inside_hands_it_over() -> None:
    lock = FairLock()
    with pytest.raises(ZeroDivisionError), lock:
        raise ZeroDivisionError
    with lock:
        pass


@pytest.mark.parametrize("is_handed_over", [False, True])
def test_an_interrupt_while_waiting_loses_nobodys_place(monkeypatch: pytest.MonkeyPatch, is_handed_over: bool) -> None:
    """Ctrl-C may come while one waits, or at the very moment at which the lock is handed over."""
    lock, order = FairLock(), list[int]()
    real = threading.Lock

    class Interrupted:
        """A gate that fails when it is waited at."""

        def __init__(self) -> None:
            self.tries = 0

        def acquire(self) -> bool:
            self.tries += 1
            if self.tries > 1:
                if is_handed_over:
                    lock.__exit__(None, None, None)  # the holder leaves just before
                raise KeyboardInterrupt
            return True

        def release(self) -> None:
            pass

    lock.__enter__()
    monkeypatch.setattr("loqal.ops.fair_lock.threading.Lock", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        lock.__enter__()
    monkeypatch.setattr("loqal.ops.fair_lock.threading.Lock", real)
    if not is_handed_over:
        lock.__exit__(None, None, None)
    asker = Asker(lock, order, 1)
    asker.may_leave.set()
    asker.start()
    asker.join(30)
    assert order == [1]
