"""Memory for pictures while they are read: never more than there is, in the order of coming."""

from __future__ import annotations

import io
import threading

import numpy as np
import pytest
from PIL import Image

from loqal.media.decode_budget import DecodeBudget
from loqal.media.fetch import Policy
from loqal.media.prepare import Preparer
from loqal.media.resize_rules import ImageRules, VideoRules
from loqal.types.messages import MediaPart
from waiting import PATIENCE_S, wait_until


class Reader(threading.Thread):
    """Holds some bytes until it is told to leave."""

    def __init__(self, budget: DecodeBudget, order: list[int], number: int, size: int) -> None:
        super().__init__(daemon=True)
        self._budget, self._order, self._number, self._size = budget, order, number, size
        self.may_leave = threading.Event()

    def run(self) -> None:
        with self._budget.take(self._size):
            self._order.append(self._number)
            self.may_leave.wait(PATIENCE_S)


def test_the_budget_is_never_overdrawn_and_nobody_is_passed_over() -> None:
    budget, order = DecodeBudget(100), list[int]()
    readers = [Reader(budget, order, number, size) for number, size in enumerate((60, 1000, 10, 50, 100, 30))]
    with budget.take(100):
        for number, reader in enumerate(readers):
            reader.start()
            wait_until(lambda number=number: len(budget._waiting) > number)  # type: ignore[misc]
        assert order == []
    # Who leaves, and who is in then. 1000 are as many as there are; 30 would fit beside 10 and 50, but comes later.
    for leaving, inside in (((), [0]), ((0,), [0, 1]), ((1,), [0, 1, 2, 3]), ((2,), [0, 1, 2, 3])):
        for number in leaving:
            readers[number].may_leave.set()
            readers[number].join(PATIENCE_S)
        wait_until(lambda inside=inside: sorted(order) == inside)  # type: ignore[misc]
    readers[3].may_leave.set()
    wait_until(lambda: order[4:] == [4])
    readers[4].may_leave.set()
    readers[5].may_leave.set()
    for reader in readers:
        reader.join(PATIENCE_S)
    assert order[:2] == [0, 1] and order[4:] == [4, 5]


def test_an_error_gives_back_what_was_taken() -> None:
    budget = DecodeBudget(100)
    with pytest.raises(ZeroDivisionError), budget.take(100):
        raise ZeroDivisionError
    with budget.take(100):
        pass


@pytest.mark.parametrize(("mode", "copies"), [("RGB", 1), ("RGBA", 4)])
def test_what_a_picture_takes_while_it_is_read(mode: str, copies: int) -> None:
    file = io.BytesIO()
    Image.fromarray(np.zeros((640, 320, len(mode)), np.uint8)).save(file, "PNG")
    preparer = Preparer(ImageRules(), VideoRules(), Policy())
    (view,) = preparer.prepare(MediaPart("image", file.getvalue())).views
    making, kept = view.reading_bytes
    assert kept == 640 * 320 * 3 == view.patches().values.nbytes
    assert making == 640 * 320 * (4 * copies + 6)
