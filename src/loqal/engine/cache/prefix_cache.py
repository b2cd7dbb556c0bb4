"""Prefix cache: captures of states by token prefix, shared by all requests.

A sequence whose prompt begins with the tokens (and media) of a capture can start from it. ``plan`` decides which
captures are made. When memory is short, those that save the fewest tokens per byte are evicted, where the least
recently used count least.

Invariant: the cache holds one reference to every slot and page of its captures, and drops it when it evicts them.
"""

from __future__ import annotations

import enum
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from loqal.engine.cache.disk_captures import DiskCaptures
from loqal.engine.cache.media_keys import MediaKeys
from loqal.engine.cache.radix_tree import Keys, RadixTree
from loqal.ops.interface import PAGE_TOKENS
from loqal.state.disk_cache import DiskCache
from loqal.state.store import Capture, SequenceState, StateStore

_MOST_KEYS = 1 << 20  # 8 MiB of remembered runs
_RECENT = 16  # uses of the cache after which a capture counts half


class MissReason(enum.StrEnum):
    """Why the prompt, or the rest of it, was not cached."""

    UNKNOWN = "unknown"  # no known prefix
    DIFFERS = "differs"  # it differs from known prefixes at some token
    EVICTED = "evicted"  # the captures of a longer known prefix were evicted
    OFF = "off"  # the cache is disabled


@dataclass(frozen=True, slots=True)
class CacheReport:
    """The cache's result for one prompt."""

    cached: int = 0  # tokens that did not have to be read
    known: int = 0  # leading tokens that some earlier request shared
    reason: MissReason | None = MissReason.OFF  # None: as much as possible was cached


@dataclass(slots=True, eq=False)
class _CachedCapture:
    """One cached capture."""

    keys: Keys
    capture: Capture
    used: int
    pins: int = 0


class PrefixCache:
    """Captures by token prefix.

    Args:
        store: holds the states. The cache evicts captures whenever the store is short of memory.
        is_on: False disables the cache.
        disk: where captures outlive the process, if anywhere.
    """

    def __init__(self, store: StateStore, *, is_on: bool = True, disk: DiskCache | None = None) -> None:
        self._store, self.is_on = store, is_on
        self._tree: RadixTree[_CachedCapture] = RadixTree(_MOST_KEYS)
        self._kept: list[_CachedCapture] = []
        self._clock = 0
        self.num_evicted = 0
        self.media = MediaKeys()
        self.saved = DiskCaptures(store, disk, self.media) if disk is not None and is_on else None
        page, slot = store.pages.unit_bytes, store.slots.unit_bytes
        # At this spacing captures take as many bytes as the keys and values between them.
        self.spacing_tokens = max(PAGE_TOKENS, round(slot / max(page, 1)) * PAGE_TOKENS)
        me = weakref.ref(self)  # a cycle would keep the weights until the next collection
        store.reclaim = lambda: (cache := me()) is not None and cache.evict_one()

    @property
    def num_captures(self) -> int:
        """How many captures are kept in memory."""
        return len(self._kept)

    @property
    def holders(self) -> list[SequenceState | Capture]:
        """Cached captures, and those being written to or read from disk."""
        return [*(kept.capture for kept in self._kept), *(self.saved.holders if self.saved else ())]

    def take(self, keys: Keys, limit: int) -> tuple[Capture | None, CacheReport]:
        """The longest capture of at most ``limit`` tokens, pinned until ``unpin``."""
        entry, report = self._look(keys, limit)
        self._clock += 1
        if entry is None:
            return None, report
        entry.used = self._clock
        entry.pins += 1
        return entry.capture, report

    def forecast(self, keys: Keys, limit: int) -> CacheReport:
        """The report of ``take``, without taking anything."""
        return self._look(keys, limit)[1]

    def _look(self, keys: Keys, limit: int) -> tuple[_CachedCapture | None, CacheReport]:
        if not self.is_on:
            return None, CacheReport()
        found = self._tree.find(keys, limit)
        reason = None
        if found.was_lost:
            reason = MissReason.EVICTED
        elif found.known == 0:
            reason = MissReason.UNKNOWN
        elif found.known < limit:
            reason = MissReason.DIFFERS
        return found.entry, CacheReport(found.length, found.known, reason)

    def unpin(self, capture: Capture) -> None:
        """Make a capture of ``take`` evictable again."""
        for kept in self._kept:
            if kept.capture is capture:
                kept.pins -= 1

    def plan(self, prompt_len: int, report: CacheReport, marks: Iterable[int], required: Iterable[int]) -> list[int]:
        """Lengths at which a prompt is captured while it is read, ascending.

        Args:
            marks: starts of messages, where other requests may differ; a page apart, or more where there are many. The
                next request of the same conversation starts at one of the last two, which always count.
            required: lengths at which a capture is wanted in any case: ends of media.
        """
        first, last = report.cached, prompt_len - 1
        if not self.is_on or last <= first:
            return []
        inside = [mark for mark in marks if first < mark <= last]
        wanted = {mark for mark in required if first < mark <= last} | set(inside[-2:])
        if report.known - first >= PAGE_TOKENS and report.known <= last:
            wanted.add(report.known)  # two requests differ here, so a third may
        gap, most = PAGE_TOKENS, self._most_marks()
        while len(thinned := _thinned(inside, first, gap)) > most:
            gap *= 2
        wanted |= set(thinned)
        if last - max(wanted, default=first) >= PAGE_TOKENS:
            wanted.add(last)  # for the same prompt once more
        for point in range((first // self.spacing_tokens + 1) * self.spacing_tokens, last, self.spacing_tokens):
            if not any(point - self.spacing_tokens < mark <= point for mark in wanted):
                wanted.add(point)
        return sorted(wanted)

    def _most_marks(self) -> int:
        """Maximum number of captures at the messages of one prompt: a quarter of the memory."""
        budget, slot = self._store.budget_bytes, self._store.slots.unit_bytes
        room = self._store.slots.size if budget is None else min(self._store.slots.size, budget // max(slot, 1))
        return max(2, room // 4)

    def remember(self, keys: Keys) -> None:
        """Remember a run of tokens, so that the next one with the same prefix is captured where they differ."""
        if self.is_on:
            self._tree.insert(keys)
            self._tree.trim()

    def restore(self, keys: Keys, limit: int) -> Iterator[None]:
        """Restore the longest capture of at most ``limit`` tokens from disk, in pieces, if that pays."""
        if self.saved is None:
            return
        base, _ = self.take(keys, limit)
        try:
            restored = yield from self.saved.restore(keys, limit, base)
        finally:
            if base is not None:
                self.unpin(base)
        if restored is not None:
            self.put(keys[: restored.length], restored)

    def put(self, keys: Keys, capture: Capture, *, save: bool = False) -> None:
        """Add a capture of these keys, or release it when there is one already.

        Args:
            save: on disk too, where there is one.
        """
        if not self.is_on or capture.length == 0:
            self._store.release(capture)
            return
        assert len(keys) == capture.length
        self._clock += 1
        kept = _CachedCapture(keys.copy(), capture, self._clock)
        known = self._tree.insert(kept.keys, kept)
        if known is None:
            self._kept.append(kept)
            if save and self.saved is not None:
                self.saved.offer(kept.keys, capture)
        else:
            known.used = self._clock
            self._store.release(capture)

    def evict_one(self) -> bool:
        """Evict the capture that saves the least per byte. False when none can be evicted."""
        free = [kept for kept in self._kept if not kept.pins]
        if not free:
            return False
        self._drop(min(free, key=self._worth))
        self.num_evicted += 1
        return True

    def clear(self) -> None:
        """Evict everything."""
        for kept in list(self._kept):
            self._drop(kept)

    def _worth(self, kept: _CachedCapture) -> float:
        """Tokens saved per byte, decayed by the uses of the cache since."""
        saved = kept.capture.length - self._tree.above(kept.keys)
        return saved / self._store.num_freed_bytes(kept.capture) / (1 + (self._clock - kept.used) / _RECENT)

    def _drop(self, kept: _CachedCapture) -> None:
        self._kept.remove(kept)
        if self.saved is not None:
            self.saved.withdraw(kept.capture)
        self._tree.remove(kept.keys)
        self._store.release(kept.capture)


def _thinned(marks: Iterable[int], first: int, gap: int) -> list[int]:
    """The marks that are at least ``gap`` after ``first`` and after the one before."""
    kept, found = first, []
    for mark in marks:
        if mark - kept >= gap:
            found.append(mark)
            kept = mark
    return found
