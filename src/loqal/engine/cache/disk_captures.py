"""On-disk prefix cache: which captures are written, and how they are restored.

Writing happens on a thread of its own, one capture at a time, and the engine never waits for it. Reading back happens
between steps, a file at a time, so that running replies go on.

Invariant: at most one capture is held for the writer; it is given back on the engine's thread (``collect``).
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator

from loqal.engine.cache.media_keys import MediaKeys
from loqal.engine.cache.radix_tree import Keys, RadixTree
from loqal.errors import CapacityError
from loqal.ops.interface import PAGE_TOKENS
from loqal.state.disk_cache import DamagedError, DiskCache, DiskState
from loqal.state.store import Capture, SequenceState, StateStore, num_pages

LEAST_TOKENS = 2 * PAGE_TOKENS  # shorter states are read faster than they are found
_MOST_KEYS = 1 << 22
_MOST_PENDING = 64


class DiskCaptures:
    """Captures on disk.

    Args:
        disk: where they are kept.
        media: the numbers by which this process knows media.
    """

    def __init__(self, store: StateStore, disk: DiskCache, media: MediaKeys) -> None:
        self._store, self._disk, self._media = store, disk, media
        self._tree: RadixTree[DiskState] = RadixTree(_MOST_KEYS)
        for state in disk.states.values():
            self._tree.insert(media.localised(state.keys, state.media), state)
        self._pending: list[tuple[Keys, Capture]] = []
        self._held: Capture | None = None
        self._done: queue.SimpleQueue[tuple[Keys, DiskState | None]] = queue.SimpleQueue()
        self._work: queue.SimpleQueue[tuple[Keys, Capture] | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        self.restoring: list[SequenceState] = []

    @property
    def holders(self) -> list[SequenceState | Capture]:
        """Captures held here beside the cache."""
        return [*self.restoring, *([self._held] if self._held else [])]

    def offer(self, keys: Keys, capture: Capture) -> None:
        """Queue a capture for writing; it is skipped if the cache has evicted it by then."""
        if capture.length >= LEAST_TOKENS:
            self._pending = [*self._pending[-_MOST_PENDING:], (keys.copy(), capture)]

    def withdraw(self, capture: Capture) -> None:
        """Forget a capture that the cache evicts."""
        self._pending = [one for one in self._pending if one[1] is not capture]

    def collect(self) -> None:
        """Release captures that were written, and give the writer the next."""
        while not self._done.empty():
            keys, state = self._done.get()
            if state is not None:
                self._tree.insert(keys, state)
            assert self._held is not None
            self._store.release(self._held)
            self._held = None
        if self._held is None and self._pending:
            keys, capture = self._pending.pop(0)
            self._held = self._store.hold(capture)
            if self._writer is None:
                self._writer = threading.Thread(target=self._write_all, name="loqal-states", daemon=True)
                self._writer.start()
            self._work.put((keys, capture))

    def flush(self) -> None:
        """Wait until all captures are written. None may be offered afterwards."""
        while self._pending or self._held is not None:
            if self._held is not None:
                self._done.put(self._done.get())  # wait for the writer, and leave the word to ``collect``
            self.collect()
        if self._writer is not None:
            self._work.put(None)
            self._writer.join()

    def restore(self, keys: Keys, limit: int, base: Capture | None) -> Generator[None, None, Capture | None]:
        """Restore the longest state on disk that is longer than ``base`` and at most ``limit`` tokens.

        Yields between files, and returns the capture; None when there is no such state any more.

        Args:
            base: what the cache has of the same tokens; its full pages are shared.
        """
        found = self._tree.find(keys, limit)
        if found.entry is None or (base is not None and found.length < base.length + LEAST_TOKENS):
            return None
        state = self._begin(found.length, base)
        if state is None:
            return None
        self.restoring.append(state)
        in_place = 0 if base is None else base.length // PAGE_TOKENS
        pages = self._store.page_memory
        is_good = False
        try:
            yield from self._disk.restore(
                found.entry,
                lambda number: None if number < in_place else pages(state.pages[number]),
                self._store.slot_memory(state.slot),
            )
            is_good = True
        except DamagedError:
            self._tree.remove(keys[: found.length])
            return None
        finally:
            self.restoring.remove(state)
            if not is_good:
                self._store.release(state)
        state.length = found.length
        return self._store.retire(state)

    def _begin(self, length: int, base: Capture | None) -> SequenceState | None:
        """A state with pages for so many tokens; None when memory does not suffice."""
        try:
            state = self._store.open()
        except CapacityError:
            return None
        try:
            if base is not None:
                self._store.share_pages(state, base, base.length // PAGE_TOKENS)
            self._store.reserve(state, length - state.length)
        except CapacityError:
            self._store.release(state)
            return None
        return state

    def _write_all(self) -> None:
        """The writer's thread."""
        while (work := self._work.get()) is not None:
            keys, capture = work
            state = None
            try:
                plain, media = self._media.portable(keys)
                pages = [self._store.page_memory(page) for page in capture.pages[: num_pages(capture.length)]]
                state = self._disk.save(plain, media, pages, self._store.slot_memory(capture.slot))
            finally:
                self._done.put((keys, state))
