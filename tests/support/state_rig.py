"""A store of states over plain arrays, and captures of it, for tests of what decides about them."""

from __future__ import annotations

from typing import Any

import numpy as np

from loqal.ops.backends.reference import ReferenceOps
from loqal.state.store import Capture, SequenceState, StateStore
from loqal.testing.checkpoints import tiny_config


def state_store(num_slots: int = 8, num_pages: int = 32, **options: Any) -> StateStore:
    """A store of a tiny model, on the reference backend."""
    config = tiny_config(num_draft_layers=options.pop("num_draft_layers", 0))
    return StateStore(ReferenceOps(), config, num_slots=num_slots, num_pages=num_pages, **options)


def state_of(store: StateStore, length: int) -> SequenceState:
    """A fresh state that has seen so many tokens."""
    state = store.open()
    store.reserve(state, length)
    store.advance(state, length)
    return state


def capture_of(store: StateStore, length: int) -> Capture:
    """The only capture of a state of so many tokens."""
    return store.retire(state_of(store, length))


def fill(store: StateStore, held: SequenceState | Capture, seed: int) -> None:
    """Random bytes into everything that a state or capture holds."""
    rng = np.random.default_rng(seed)
    for array in contents(store, held):
        array.view(np.uint8)[...] = rng.integers(0, 100, array.view(np.uint8).shape, np.uint8)


def contents(store: StateStore, held: SequenceState | Capture) -> list[np.ndarray]:
    """The memory of a state or capture: its pages in order, then its slot."""
    pages = [array for page in held.pages for array in store.page_memory(page)]
    return [*pages, *store.slot_memory(held.slot)]
