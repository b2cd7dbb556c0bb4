"""A model on the native kernels whose steps can be timed, without text, sampling and scheduling around them.

A step here is the network and the logits of each sequence's last token. Token ids are arbitrary: how long a step takes
does not depend on them.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from loqal import settings
from loqal.engine import memory_plan
from loqal.engine.options import CHUNK_TOKENS
from loqal.engine.step_batch import Run, build
from loqal.errors import CapacityError, RequestError
from loqal.model.decoder import Decoder
from loqal.ops.choose import choose_ops
from loqal.ops.interface import PAGE_TOKENS
from loqal.ops.timing_interface import MeasuredOps
from loqal.performance.machine_speed import Machine, measure
from loqal.runtime.open_model import locate
from loqal.state import state_sizes
from loqal.state.store import SequenceState, StateStore
from loqal.system.memory import machine_bytes
from loqal.weights.load import Checkpoint, open_checkpoint


@dataclass(frozen=True, slots=True)
class Timing:
    """One timed piece of work."""

    seconds: float
    busy_s: float  # of them inside kernels
    weight_bytes: int  # of the weights that kernels multiplied with


class TimedModel:
    """A loaded model with room for some sequences.

    Args:
        model, threads, isa, kv_bits: as in ``runtime.load``.
        context_len: most tokens of one sequence.
        num_sequences: most sequences in a step.
        num_tokens: most tokens all sequences hold together, each counted in whole pages.

    Attributes:
        config: without draft head and vision tower, which take no part in a plain step.
        main_format: of most bytes of its layers.
        kv_bits: of its keys and values.
        weight_bytes: of the weights that a decode step multiplies with, one sequence.

    Raises:
        CheckpointError: the model cannot be used.
        RequestError: a setting is out of range, or the backend does not measure itself.
        CapacityError: the memory does not suffice.
        InstallationError: the installation is incomplete.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None,
        *,
        context_len: int,
        num_sequences: int,
        num_tokens: int,
        threads: int | None = None,
        isa: str | None = None,
        kv_bits: int | None = None,
    ) -> None:
        chosen = settings.resolve({"threads": threads, "isa": isa, "kv_bits": kv_bits}, os.environ)
        ops = choose_ops(chosen.backend, isa=chosen.isa, threads=chosen.threads)
        if not isinstance(ops, MeasuredOps):
            raise RequestError(
                f"The backend {chosen.backend!r} cannot be measured.",
                "Only the native kernels know the speed of their machine.",
                "Unset LOQAL_BACKEND.",
            )
        self.ops: MeasuredOps = ops
        checkpoint = open_checkpoint(locate(model))
        self.kv_bits = chosen.kv_bits or memory_plan.default_kv_bits(checkpoint.tensors.format("embed"))
        try:
            self.config = dataclasses.replace(checkpoint.config, num_draft_layers=0, vision=None)
            self.name, self.size_label = checkpoint.name, checkpoint.size_label
            self.main_format = _main_format(checkpoint)
            if context_len > self.config.context_len:
                raise RequestError(
                    f"The longest sequence to measure has {context_len} tokens.",
                    f"{self.name} was made for at most {self.config.context_len}.",
                    "Choose shorter prompts and contexts.",
                )
            self._load(checkpoint, num_sequences, -(-num_tokens // PAGE_TOKENS))
        finally:
            checkpoint.close()
        self._token_ids = np.random.default_rng(0).integers(0, self.config.vocab_size, CHUNK_TOKENS).tolist()
        self.weight_bytes = self.decode(0, 1, 1).weight_bytes

    def _load(self, checkpoint: Checkpoint, num_sequences: int, num_pages: int) -> None:
        needed = checkpoint.weight_bytes + self.kv_bytes(num_pages * PAGE_TOKENS)
        too_large = CapacityError(
            f"Measuring {checkpoint.name} like this takes {needed / 1e9:.1f} GB.",
            f"The machine has {machine_bytes() / 1e9:.1f} GB.",
            "Choose smaller contexts or batches, or a smaller model.",
        )
        if needed > machine_bytes():
            raise too_large
        try:
            self._decoder = Decoder(self.config, self.ops, checkpoint.tensors)
            self._store = StateStore(
                self.ops,
                self.config,
                num_slots=num_sequences,
                num_pages=num_pages,
                num_journals=num_sequences,
                kv_bits=self.kv_bits,
            )
        except MemoryError as error:
            raise too_large from error

    def kv_bytes(self, num_tokens: int) -> int:
        """Bytes of the keys and values of some positions of one sequence."""
        return num_tokens * memory_plan.kv_token_bytes(self.config, self.kv_bits)

    @property
    def state_bytes(self) -> int:
        """Bytes of the recurrent states and convolution tails of one sequence."""
        return state_sizes.slot_bytes(self.config)

    # Timing ---------------------------------------------------------------------------------------------------------

    def prefill(self, num_tokens: int) -> Timing:
        """Read a prompt, in the engine's chunks."""
        state = self._store.open()

        def read_prompt() -> None:
            while state.length < num_tokens:
                count = min(CHUNK_TOKENS, num_tokens - state.length)
                self._step([state], count, want_logits=state.length + count == num_tokens)

        timing = self._timed(read_prompt)
        self._store.release(state)
        return timing

    def decode(self, context: int, batch: int, num_steps: int) -> Timing:
        """Some steps of one token for each of ``batch`` sequences that have ``context`` tokens before them."""
        states = [self._open_at(context) for _ in range(batch)]

        def write() -> None:
            for _ in range(num_steps):
                self._step(states, 1)

        timing = self._timed(write)
        for state in states:
            self._store.release(state)
        return timing

    def measure_machine(self) -> Machine:
        """What the machine reaches at this moment with all threads of the run."""
        return measure(self.ops)

    def _timed(self, work: Callable[[], None]) -> Timing:
        before, started = self.ops.work_done(), time.perf_counter()
        work()
        seconds, after = time.perf_counter() - started, self.ops.work_done()
        return Timing(seconds, after.busy_s - before.busy_s, after.weight_bytes - before.weight_bytes)

    def _step(self, states: Sequence[SequenceState], num_tokens: int, *, want_logits: bool = True) -> None:
        """Feed every sequence some tokens; the logits of each one's last token when they are wanted."""
        runs = []
        for state in states:
            self._store.reserve(state, num_tokens)
            positions = np.arange(state.length, state.length + num_tokens, dtype=np.int32)
            logit_rows = [num_tokens - 1] if want_logits else []
            runs.append(Run(state, self._token_ids[:num_tokens], np.repeat(positions[:, None], 3, axis=1), logit_rows))
        batch = build(runs)
        with self.ops.exclusive():
            hidden = self._decoder.forward(batch, self._store)
        for state in states:
            self._store.advance(state, num_tokens)
        if want_logits:
            self._decoder.unembed(self.ops.select(hidden, batch.logit_rows))

    def _open_at(self, length: int) -> SequenceState:
        """A sequence of some length. Only its first page is computed, the others are copies of it: how long a step
        takes does not depend on the values it reads, and computing them all would take minutes."""
        state = self._store.open()
        first = min(length, PAGE_TOKENS)
        if first:
            self._step([state], first, want_logits=False)
        self._store.reserve(state, length - first)
        for mixer, pages in zip(self.config.layers, self._store.mixers, strict=True):
            for page in state.pages[1:] if mixer == "attention" else ():
                self.ops.copy_page(pages, state.pages[0], page)
        self._store.advance(state, length - first)
        return state


def _main_format(checkpoint: Checkpoint) -> str:
    sizes: dict[str, int] = {}
    tensors = checkpoint.tensors
    for name in tensors:
        if name.startswith("layers."):
            sizes[tensors.format(name)] = sizes.get(tensors.format(name), 0) + tensors.size_bytes(name)
    return max(sizes, key=lambda format: sizes[format])
