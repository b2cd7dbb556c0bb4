"""An engine on a tiny model, driven step by step on the test's own thread, and what its requests answer alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from loqal.engine.event_stream import Mailbox
from loqal.engine.loop import Loop
from loqal.engine.options import EngineOptions
from loqal.engine.running import RunningSequence
from loqal.engine.sequence import MediaSpan, Sequence
from loqal.model.config import ModelConfig
from loqal.model.decoder import Decoder
from loqal.model.draft_head import DraftHead
from loqal.ops.interface import FloatArray, Ops
from loqal.state import state_sizes
from loqal.state.disk_cache import DiskCache
from loqal.state.store import StateStore
from loqal.testing.checkpoints import random_tensors
from loqal.types.reply import TokenEvent
from loqal.types.sampling import SamplingParams
from machine import stored

PARAMS = SamplingParams(
    max_tokens=6,
    temperature=1.0,
    top_k=20,
    top_p=1.0,
    min_p=0.0,
    presence_penalty=0.5,
    frequency_penalty=0.0,
    repetition_penalty=1.0,
    logprobs=4,
    seed=7,
)
CONTEXT_LEN = 640


@dataclass(frozen=True)
class Ask:
    """A request as a test describes it. ``images`` stand at the start of some pages' worth of tokens."""

    prompt: tuple[int, ...]
    params: SamplingParams = PARAMS
    images: tuple[tuple[int, int, int], ...] = ()  # start, length, which picture
    boundaries: tuple[int, ...] = ()
    priority: int = 0
    client: str = ""

    def sequence(self, width: int) -> Sequence:
        return Sequence(
            self.prompt,
            self.params,
            media=[
                MediaSpan(start, length, bytes([picture]), lambda n=length, p=picture: picture_rows(p, n, width))
                for start, length, picture in self.images
            ],
            boundaries=self.boundaries,
            priority=self.priority,
            client=self.client,
        )


def picture_rows(picture: int, length: int, width: int) -> FloatArray:
    """What an image looks like to the network."""
    return np.random.default_rng(picture).normal(0, 1, (length, width)).astype(np.float32)


@dataclass
class Running:
    """A request in a loop, and what came out of it."""

    ask: Ask
    active: RunningSequence
    mailbox: Mailbox[TokenEvent]
    events: list[TokenEvent] = field(default_factory=list)
    has_ended: bool = False

    @property
    def answer(self) -> list[tuple[object, ...]]:
        return [(event.token_id, event.logprobs, event.finish_reason) for event in self.events]

    def collect(self) -> None:
        while not self.mailbox.items.empty():
            item = self.mailbox.items.get()
            if isinstance(item, BaseException):
                raise item
            if item is None:
                self.has_ended = True
            else:
                self.events.append(item)


class Rig:
    """A model, its states, and a loop over them."""

    def __init__(
        self,
        config: ModelConfig,
        ops: Ops,
        *,
        num_slots: int = 24,
        num_pages: int = 80,
        num_journals: int = 0,
        budget_bytes: int | None = None,
        slot_group: int = 1,
        decoder: Decoder | None = None,
        disk: DiskCache | None = None,
        **options: Any,
    ) -> None:
        self.config, self.ops = config, ops
        tensors = stored(random_tensors(config))
        self.decoder = decoder or Decoder(config, ops, tensors)
        self.draft_head = DraftHead(self.decoder, tensors) if config.num_draft_layers else None
        self.store = StateStore(
            ops,
            config,
            num_slots=num_slots,
            num_pages=num_pages,
            num_journals=num_journals,
            budget_bytes=budget_bytes,
            slot_group=slot_group,
        )
        self.store.poison_freed = True
        chosen = EngineOptions(**({"context_len": CONTEXT_LEN, "chunk_tokens": 128, "max_sequences": 4} | options))
        self.loop = Loop(self.decoder, self.store, chosen, draft_head=self.draft_head, disk=disk)

    def start(self, ask: Ask) -> Running:
        mailbox: Mailbox[TokenEvent] = Mailbox()
        return Running(ask, self.loop.add(ask.sequence(self.config.width), mailbox), mailbox)

    def step(self, running: Iterable[Running] = ()) -> None:
        self.loop.step()
        self.loop.check()
        for one in running:
            one.collect()

    def finish(self, *running: Running) -> None:
        steps = 0
        while not self.loop.is_idle:
            self.step(running)
            steps += 1
            assert steps < 5000, "the engine does not come to an end"
        for one in running:
            one.collect()
            assert one.has_ended

    def answer(self, ask: Ask) -> list[tuple[object, ...]]:
        one = self.start(ask)
        self.finish(one)
        return one.answer


class Alone:
    """What requests answer alone and cold, each computed once."""

    def __init__(self, config: ModelConfig, ops: Ops, decoder: Decoder) -> None:
        self._rig = Rig(config, ops, decoder=decoder, num_slots=2, num_pages=12, caches=False, chunk_tokens=512)
        self._known: dict[Ask, list[tuple[object, ...]]] = {}

    def __call__(self, ask: Ask) -> list[tuple[object, ...]]:
        plain = replace(ask, boundaries=(), priority=0, client="")
        if plain not in self._known:
            self._known[plain] = self._rig.answer(plain)
        return self._known[plain]


def budget_for(config: ModelConfig, slots: int, pages: int) -> int:
    """Bytes of some slots and pages together."""
    return slots * state_sizes.slot_bytes(config) + pages * state_sizes.page_bytes(config)
