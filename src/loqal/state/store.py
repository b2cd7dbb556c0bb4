"""What sequences remember: KV pages of the attention layers, recurrent slots of the Gated DeltaNet layers.

A recurrent state cannot be cut or rewound: it exists at exactly one length. So a prefix can be taken up again only at a
capture, which holds the pages up to a length together with a copy of every recurrent state at that same length.

Invariants:
* ``SequenceState.length`` counts the tokens that both its pages and its slot have seen;
* a page that several hold is never written: ``reserve`` copies the last, partly filled page first;
* every page and slot number is owned by states and captures only, and returns with ``release``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..model.config import ModelConfig
from ..ops.interface import PAGE_TOKENS, Ops, Pages, Slots
from .allocator import Allocator


@dataclass(slots=True)
class SequenceState:
    """The state of one sequence: its slot, its pages in position order, and how many tokens they have seen."""

    slot: int
    pages: list[int] = field(default_factory=list)
    length: int = 0


@dataclass(frozen=True, slots=True)
class Capture:
    """A copy of a sequence's state at one length, from which sequences can start."""

    slot: int
    pages: tuple[int, ...]
    length: int


class StateStore:
    """All state of one model.

    ``mixers[i]`` is the backend's handle of trunk layer i (pages or slots, as the layer needs); ``draft_pages`` is the
    one of the draft layer, or None. All attention layers share one page numbering, all recurrent layers one slot
    numbering.
    """

    def __init__(self, ops: Ops, config: ModelConfig, *, num_slots: int, num_pages: int, kv_bits: int = 16) -> None:
        self._ops = ops
        self.mixers: list[Pages | Slots] = [
            ops.new_pages(num_pages, config.attention_shape, kv_bits)
            if mixer == "attention"
            else ops.new_slots(num_slots, config.delta_shape)
            for mixer in config.layers
        ]
        self.draft_pages: Pages | None = (
            ops.new_pages(num_pages, config.attention_shape, kv_bits) if config.num_draft_layers else None
        )
        self._slot_stores = [s for s, mixer in zip(self.mixers, config.layers, strict=True) if mixer == "delta"]
        self._page_stores = [s for s, mixer in zip(self.mixers, config.layers, strict=True) if mixer == "attention"]
        if self.draft_pages is not None:
            self._page_stores.append(self.draft_pages)
        self.pages = Allocator(num_pages, "KV pages")
        self.slots = Allocator(num_slots, "recurrent slots")

    def open(self) -> SequenceState:
        """A fresh state of length 0. Raises CapacityError when all slots are in use."""
        slot = self.slots.take()
        for store in self._slot_stores:
            self._ops.clear_slot(store, slot)
        return SequenceState(slot)

    def reserve(self, state: SequenceState, num_tokens: int) -> None:
        """Make room for ``num_tokens`` more tokens. Raises CapacityError, leaving the state as it was."""
        if state.length % PAGE_TOKENS and self.pages.is_shared(state.pages[-1]):
            fresh = self.pages.take()
            for store in self._page_stores:
                self._ops.copy_page(store, state.pages[-1], fresh)
            self.pages.release(state.pages[-1])
            state.pages[-1] = fresh
        missing = -(-(state.length + num_tokens) // PAGE_TOKENS) - len(state.pages)
        fresh_pages: list[int] = []
        try:
            for _ in range(missing):
                fresh_pages.append(self.pages.take())
        except BaseException:
            for page in fresh_pages:
                self.pages.release(page)
            raise
        state.pages.extend(fresh_pages)

    def advance(self, state: SequenceState, num_tokens: int) -> None:
        """Record that a step has written ``num_tokens`` more tokens."""
        state.length += num_tokens
        assert state.length <= len(state.pages) * PAGE_TOKENS, "advanced beyond the reserved pages"

    def capture(self, state: SequenceState) -> Capture:
        """Copy the state as it stands. Pages are shared, not copied."""
        slot = self.slots.take()
        for store in self._slot_stores:
            self._ops.copy_slot(store, state.slot, slot)
        pages = state.pages[: -(-state.length // PAGE_TOKENS)]
        for page in pages:
            self.pages.share(page)
        return Capture(slot, tuple(pages), state.length)

    def adopt(self, capture: Capture) -> SequenceState:
        """A new sequence that continues from a capture, which stays usable."""
        slot = self.slots.take()
        for store in self._slot_stores:
            self._ops.copy_slot(store, capture.slot, slot)
        for page in capture.pages:
            self.pages.share(page)
        return SequenceState(slot, list(capture.pages), capture.length)

    def release(self, held: SequenceState | Capture) -> None:
        """Give back the slot and the pages."""
        self.slots.release(held.slot)
        for page in held.pages:
            self.pages.release(page)
