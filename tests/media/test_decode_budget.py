"""Memory for pictures while they are read: never more than there is, in the order of coming."""

from __future__ import annotations

import io
import threading
import time

import numpy as np
import pytest
from PIL import Image

from loqal.media.decode_budget import DecodeBudget
from loqal.media.fetch import Policy
from loqal.media.prepare import Preparer
from loqal.media.resize_rules import ImageRules, VideoRules
from loqal.types.messages import MediaPart


def test_the_room_is_never_overdrawn_and_nobody_is_passed_over() -> None:
    room, lock = DecodeBudget(100), threading.Lock()
    held, most, order = [0], [0], []

    def read(index: int, size: int) -> None:
        with room.take(size):
            with lock:
                order.append(index)
                held[0] += min(size, 100)
                most[0] = max(most[0], held[0])
            time.sleep(0.005)
            with lock:
                held[0] -= min(size, 100)

    with room.take(100):
        readers = []
        for index, size in enumerate((60, 1000, 10, 50, 100, 30)):
            readers.append(threading.Thread(target=read, args=(index, size)))
            readers[-1].start()
            while len(room._waiting) <= index:
                time.sleep(0.001)
    for reader in readers:
        reader.join()
    assert order[:2] == [0, 1] and most[0] <= 100
    with pytest.raises(ZeroDivisionError), room.take(100):
        raise ZeroDivisionError
    with room.take(100):
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
