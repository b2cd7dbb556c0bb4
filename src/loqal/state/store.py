"""State store: KV pages of the attention layers, recurrent slots of the Gated DeltaNet layers.

A recurrent state cannot be cut or rewound: it exists at exactly one length. So a prefix can be taken up again only at a
capture, which holds the pages up to a length together with a copy of every recurrent state at that same length.

Invariants:
* ``SequenceState.length`` counts the tokens that both its pages and its slot have seen;
* a page that several hold is never written: ``reserve`` copies the last, partly filled page first;
* every page and slot number is owned by states and captures only, and returns with ``release``;
* memory that was touched never exceeds ``budget_bytes``, pages and slots together. What one of the two gives up for the
  other goes back to the system layer by layer, as the other takes it, so that the sum stays level.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from loqal.errors import CapacityError
from loqal.model.config import ModelConfig
from loqal.ops.interface import PAGE_TOKENS, Ops, Pages, RawArray, Slots
from loqal.state import state_sizes
from loqal.state.allocator import Allocator


@dataclass(slots=True)
class SequenceState:
    """The state of one sequence: its slot, its pages in position order, and how many tokens they have seen.

    The newest ``pending`` of these tokens may be in a journal and not yet in the slot.
    """

    slot: int
    pages: list[int] = field(default_factory=list)
    length: int = 0
    journal: int = -1
    pending: int = 0


@dataclass(frozen=True, slots=True)
class Capture:
    """A copy of a sequence's state at one length, from which sequences can start."""

    slot: int
    pages: tuple[int, ...]
    length: int


@dataclass(frozen=True, slots=True)
class _Owed:
    """Memory of some numbers of a pool in one layer that is free, and not yet returned to the system."""

    pool: Allocator
    numbers: list[int]
    store: Pages | Slots
    num_bytes: int


def num_pages(length: int) -> int:
    """Pages that hold ``length`` positions."""
    return -(-length // PAGE_TOKENS)


class StateStore:
    """All state of one model.

    ``mixers[i]`` is the backend's handle of trunk layer i (pages or slots, as the layer needs); ``draft_pages`` is the
    one of the draft layer, or None. All attention layers share one page numbering, all recurrent layers one slot
    numbering.

    Args:
        num_slots, num_pages: maximum numbers. Their memory is allocated on first use.
        num_journals: sequences that may verify draft tokens at once (``defer``).
        slot_group: slots that share huge pages of memory, see ``sizes.slot_group``.
        budget_bytes: memory limit of both together; None when the numbers alone are the limit.

    Attributes:
        reclaim: called when memory is exhausted. It frees some and returns True, or returns False.
        poison_freed: fill freed memory with NaN, so that tests notice reads of it.
    """

    def __init__(
        self,
        ops: Ops,
        config: ModelConfig,
        *,
        num_slots: int,
        num_pages: int,
        kv_bits: int = 16,
        num_journals: int = 0,
        budget_bytes: int | None = None,
        slot_group: int = 1,
    ) -> None:
        self._ops = ops
        self.mixers: list[Pages | Slots] = [
            ops.new_pages(num_pages, config.attention_shape, kv_bits)
            if mixer == "attention"
            else ops.new_slots(num_slots, config.delta_shape, num_journals)
            for mixer in config.layers
        ]
        self.draft_pages: Pages | None = (
            ops.new_pages(num_pages, config.attention_shape, kv_bits) if config.num_draft_layers else None
        )
        self._slot_stores = [s for s, mixer in zip(self.mixers, config.layers, strict=True) if mixer == "delta"]
        self._page_stores = [s for s, mixer in zip(self.mixers, config.layers, strict=True) if mixer == "attention"]
        if self.draft_pages is not None:
            self._page_stores.append(self.draft_pages)
        self.pages = Allocator(num_pages, "KV pages", state_sizes.page_bytes(config, kv_bits))
        self.slots = Allocator(num_slots, "recurrent slots", state_sizes.slot_bytes(config), slot_group)
        self.journals = Allocator(num_journals, "journals")
        self.budget_bytes = budget_bytes
        self.reclaim: Callable[[], bool] = lambda: False
        self.poison_freed = False
        self._owed: deque[_Owed] = deque()

    @property
    def resident_bytes(self) -> int:
        """Bytes of pages and slots that were touched and not released."""
        return self.pages.resident_bytes + self.slots.resident_bytes

    def open(self) -> SequenceState:
        """A fresh state of length 0. Raises CapacityError when there is no room for it."""
        slot = self._take(self.slots)
        for store in self._slot_stores:
            self._ops.clear_slot(store, slot)
        return SequenceState(slot)

    def reserve(self, state: SequenceState, num_tokens: int) -> None:
        """Make room for ``num_tokens`` more tokens. Raises CapacityError, leaving the state as it was."""
        missing = num_pages(state.length + num_tokens) - len(state.pages)
        is_shared = state.length % PAGE_TOKENS != 0 and self.pages.is_shared(state.pages[num_pages(state.length) - 1])
        fresh: list[int] = []
        try:
            for _ in range(missing + is_shared):
                fresh.append(self._take(self.pages))
        except BaseException:
            for page in fresh:
                self.pages.release(page)
            raise
        if is_shared:
            last = num_pages(state.length) - 1
            copy = fresh.pop()
            for store in self._page_stores:
                self._ops.copy_page(store, state.pages[last], copy)
            self._free_page(state.pages[last])
            state.pages[last] = copy
        state.pages.extend(fresh)

    def defer(self, state: SequenceState) -> bool:
        """Prepare for a step whose tokens may be rejected. False when no journal is free."""
        if state.journal < 0 and self.journals.num_free:
            state.journal = self.journals.take()
        return state.journal >= 0

    def advance(self, state: SequenceState, num_tokens: int, *, deferred: bool = False) -> None:
        """Record that a step has written ``num_tokens`` more tokens.

        Args:
            deferred: the step left them in the journal; they may be fewer than it computed.
        """
        state.length += num_tokens
        state.pending = num_tokens if deferred else 0
        assert state.length <= len(state.pages) * PAGE_TOKENS, "advanced beyond the reserved pages"

    def capture(self, state: SequenceState) -> Capture:
        """Copy the state as it stands. Pages are shared, not copied."""
        self._commit(state)
        slot = self._take(self.slots)
        for store in self._slot_stores:
            self._ops.copy_slot(store, state.slot, slot)
        return self.share(state, slot, state.length)

    def capture_slot(self) -> int:
        """A slot for a copy that a step will make; ``share`` or ``drop_slot`` takes it over."""
        return self._take(self.slots)

    def drop_slot(self, slot: int) -> None:
        """Release a slot of ``capture_slot`` that was not used."""
        self._free_slot(slot)

    def share(self, state: SequenceState, slot: int, length: int) -> Capture:
        """The capture of a state at a length up to its own, whose recurrent states a step copied to ``slot``."""
        pages = tuple(state.pages[: num_pages(length)])
        for page in pages:
            self.pages.share(page)
        return Capture(slot, pages, length)

    def retire(self, state: SequenceState) -> Capture:
        """Turn a state that is no longer used into a capture, without a copy."""
        self._commit(state)
        self._drop_journal(state)
        keep = num_pages(state.length)
        for page in state.pages[keep:]:
            self._free_page(page)
        return Capture(state.slot, tuple(state.pages[:keep]), state.length)

    def adopt(self, capture: Capture) -> SequenceState:
        """A new sequence that continues from a capture, which stays usable."""
        slot = self._take(self.slots)
        for store in self._slot_stores:
            self._ops.copy_slot(store, capture.slot, slot)
        for page in capture.pages:
            self.pages.share(page)
        return SequenceState(slot, list(capture.pages), capture.length)

    def hold(self, capture: Capture) -> Capture:
        """Add a reference to a capture; ``release`` drops it."""
        self.slots.share(capture.slot)
        for page in capture.pages:
            self.pages.share(page)
        return capture

    def share_pages(self, state: SequenceState, capture: Capture, count: int) -> None:
        """Let a fresh state begin with the first pages of a capture, which have to be full. Its slot is not touched."""
        assert not state.pages and count * PAGE_TOKENS <= capture.length
        for page in capture.pages[:count]:
            self.pages.share(page)
        state.pages, state.length = list(capture.pages[:count]), count * PAGE_TOKENS

    def page_memory(self, page: int) -> list[RawArray]:
        """The memory of one page of the trunk: what saves and restores it."""
        stores = [store for store in self._page_stores if store is not self.draft_pages]
        return [array for store in stores for array in self._ops.page_arrays(store, page)]

    def slot_memory(self, slot: int) -> list[RawArray]:
        """The memory of one slot."""
        return [array for store in self._slot_stores for array in self._ops.slot_arrays(store, slot)]

    def fork(self, state: SequenceState) -> SequenceState:
        """A second sequence that continues from where the first stands."""
        capture = self.capture(state)
        return SequenceState(capture.slot, list(capture.pages), capture.length)

    def release(self, held: SequenceState | Capture) -> None:
        """Release the slot and the pages."""
        if isinstance(held, SequenceState):
            self._drop_journal(held)
        self._free_slot(held.slot)
        for page in held.pages:
            self._free_page(page)

    def num_freed_bytes(self, capture: Capture) -> int:
        """Bytes that releasing a capture would free: its slot, and the pages that have no other holder."""
        alone = int((self.pages.holders(np.array(capture.pages, np.int64)) == 1).sum())
        return self.slots.unit_bytes + alone * self.pages.unit_bytes

    def check(self, holders: Iterable[SequenceState | Capture]) -> None:
        """Assert that these hold all that is not free, and that memory is within the budget."""
        held = list(holders)
        self.slots.check([one.slot for one in held])
        self.pages.check([page for one in held for page in one.pages])
        self.journals.check([one.journal for one in held if isinstance(one, SequenceState) and one.journal >= 0])
        assert self.budget_bytes is None or self.resident_bytes <= self.budget_bytes, "more memory than the budget"

    def _commit(self, state: SequenceState) -> None:
        """Bring the slot up to the length of the state."""
        if state.pending:
            for store in self._slot_stores:
                self._ops.commit(store, state.slot, state.journal, state.pending)
            state.pending = 0

    def _drop_journal(self, state: SequenceState) -> None:
        if state.journal >= 0:
            self.journals.release(state.journal)
        state.journal, state.pending = -1, 0

    def _free_slot(self, slot: int) -> None:
        self.slots.release(slot)
        if self.poison_freed and not self.slots.is_held(slot):
            for store in self._slot_stores:
                _spoil(self._ops.slot_arrays(store, slot))

    def _free_page(self, page: int) -> None:
        self.pages.release(page)
        if self.poison_freed and not self.pages.is_held(page):
            for store in self._page_stores:
                _spoil(self._ops.page_arrays(store, page))

    def _take(self, pool: Allocator) -> int:
        """A number of a pool within the budget: spare ones first, then fresh ones, then what others give back."""
        while True:
            if pool.num_spare:
                return pool.take()
            if pool.num_free and self._fits(pool.group * pool.unit_bytes):
                number = pool.take()
                # What of its group is still there comes back into use.
                self._owed = deque(one for one in self._owed if one.pool is not pool or number not in one.numbers)
                if pool is self.slots:
                    self._touch(number)
                return number
            if not self.reclaim():
                break
        if not pool.num_free or self.budget_bytes is None:
            return pool.take()  # raises, or is not bounded by bytes
        raise CapacityError(
            f"The state of another token needs {pool.unit_bytes:,} more bytes.",
            f"{self.resident_bytes:,} of the {self.budget_bytes:,} bytes planned for states are in use.",
            "Wait for a running request to end, or load the model with more memory_bytes or fewer max_sequences.",
        )

    def _touch(self, slot: int) -> None:
        """Let a slot's whole group take its memory now, also where the system has no huge pages to give: what is
        counted is there, and no later use of it makes the process grow."""
        first = slot // self.slots.group * self.slots.group
        for number in range(first, min(first + self.slots.group, self.slots.size)):
            for store in self._slot_stores:
                self._ops.clear_slot(store, number)

    def _fits(self, num_bytes: int) -> bool:
        """Whether memory for something fresh is within the budget once spare memory of the other pool is given back."""
        if self.budget_bytes is None:
            return True
        while self.resident_bytes + num_bytes > self.budget_bytes:
            pool, stores = self.slots, self._slot_stores
            numbers = pool.discard()
            if not numbers:
                pool, stores = self.pages, self._page_stores
                numbers = pool.discard()
            if not numbers:
                return False
            layer_bytes = len(numbers) * pool.unit_bytes // len(stores)
            self._owed.extend(_Owed(pool, numbers, store, layer_bytes) for store in stores)
        owed_bytes = sum(one.num_bytes for one in self._owed)
        while self._owed and self.resident_bytes + owed_bytes + num_bytes > self.budget_bytes:
            one = self._owed.popleft()
            owed_bytes -= one.num_bytes
            discard = self._ops.discard_slot if one.pool is self.slots else self._ops.discard_page
            for number in one.numbers:
                discard(one.store, number)
        return True


def _spoil(arrays: Iterable[RawArray]) -> None:
    for array in arrays:
        array.view(np.uint8).fill(0xFF)  # NaN in every floating type
