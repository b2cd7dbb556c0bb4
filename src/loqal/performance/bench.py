"""How fast this machine runs a model, and how near that comes to what the machine can do.

Decode is bound by bytes: weights, recurrent state and keys and values of every step over the time it took, as a share
of the speed at which this machine reads memory. Prefill is bound by arithmetic: multiply-adds of the body's matrices
over the time, as a share of the peak of the instruction the kernels use. Both limits are measured between all rows,
because they change from minute to minute on a shared machine.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from loqal.errors import RequestError
from loqal.formats import FORMATS
from loqal.model.sizes import parameter_count
from loqal.ops.interface import PAGE_TOKENS
from loqal.performance.machine_speed import Machine
from loqal.performance.timed_model import TimedModel, Timing
from loqal.runtime.open_model import locate
from loqal.weights.load import open_checkpoint

Phase = Literal["prefill", "decode"]

_WARM_UP_TOKENS = 512


@dataclass(frozen=True, slots=True)
class Workload:
    """What is measured. Contexts are measured with the first batch, batches at the first context."""

    prefill: tuple[int, ...] = (512, 4096)  # tokens of a prompt
    contexts: tuple[int, ...] = (0, 4096, 16384)  # tokens before the first decode step
    batches: tuple[int, ...] = (1, 2, 4, 8, 16)  # sequences in a decode step
    repeat: int = 5  # times; the median counts
    decode_tokens: int = 32  # steps each time

    @property
    def cells(self) -> list[tuple[int, int]]:
        """Context and batch of every decode row."""
        contexts, batches = self.contexts, self.batches
        return [(context, batches[0]) for context in contexts] + [(contexts[0], batch) for batch in batches[1:]]

    @property
    def num_tokens(self) -> int:
        """Tokens of the largest row, each sequence in whole pages."""
        decode = [batch * _whole_pages(context + self.decode_tokens) for context, batch in self.cells]
        return max(*decode, *(_whole_pages(tokens) for tokens in self.prefill), 1)

    @property
    def context_len(self) -> int:
        """Tokens of the longest sequence."""
        return max(*self.prefill, max(self.contexts) + self.decode_tokens)

    def check(self) -> None:
        """Raise RequestError if the plan makes no sense."""
        for name, values, low in (
            ("prefill", self.prefill, 1),
            ("context", self.contexts, 0),
            ("batch", self.batches, 1),
            ("repeat", (self.repeat,), 1),
        ):
            if not values or min(values) < low:
                raise RequestError(
                    f"The option {name} is {list(values)}.",
                    f"It must be whole numbers of at least {low}.",
                    "Choose other numbers.",
                )

    def within(self, context_len: int) -> Workload:
        """The plan without the prompts and contexts that are too long for a model."""
        return dataclasses.replace(
            self,
            prefill=tuple(tokens for tokens in self.prefill if tokens <= context_len),
            contexts=tuple(context for context in self.contexts if context + self.decode_tokens <= context_len),
        )


QUICK = Workload(prefill=(128,), contexts=(0, 1024), batches=(1, 4), repeat=3, decode_tokens=8)
"""A first impression within seconds."""


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. Shares are None where the limit does not apply; limits are those just before and after."""

    tokens: int  # of the prompt, or decode steps
    context: int  # tokens before them
    batch: int  # sequences
    tokens_per_s: float  # median, all sequences together
    slowest_tokens_per_s: float
    fastest_tokens_per_s: float
    share_of_read_bandwidth: float | None
    share_of_int8_peak: float | None
    share_of_float_peak: float | None  # for weights of 16 or 32 bits
    step_bytes: int | None  # weights, state read and written, keys and values of a decode step
    outside_kernels_ms: float | None  # of a decode step
    read_gb_per_s: float
    int8_gops: float


@dataclass(frozen=True, slots=True)
class Report:
    """A whole run."""

    model: str
    size_label: str | None
    format: str  # of most bytes of its layers
    kv_bits: int
    weight_bytes: int  # that a decode step of one sequence multiplies with
    machine: Machine  # figures are medians over the run
    prefill: tuple[Row, ...]
    decode: tuple[Row, ...]


def context_len_of(model: str | os.PathLike[str] | None) -> int:
    """The longest context a model was made for. Raises CheckpointError."""
    checkpoint = open_checkpoint(locate(model))
    checkpoint.close()
    return checkpoint.config.context_len


class Bench:
    """One model on this machine, ready to be measured.

    Args:
        model, threads, isa, kv_bits: as in ``runtime.load``.

    Raises: as ``TimedModel``, and RequestError for a plan that makes no sense.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        plan: Workload | None = None,
        *,
        threads: int | None = None,
        isa: str | None = None,
        kv_bits: int | None = None,
    ) -> None:
        self._plan = plan or Workload()
        self._plan.check()
        self._model = TimedModel(
            model,
            context_len=self._plan.context_len,
            num_sequences=max(self._plan.batches),
            num_tokens=self._plan.num_tokens,
            threads=threads,
            isa=isa,
            kv_bits=kv_bits,
        )
        self._machines = [self._model.measure_machine()]
        self._rows: dict[Phase, list[Row]] = {"prefill": [], "decode": []}

    def rows(self) -> Iterator[tuple[Phase, Row]]:
        """Measure one row after the other."""
        for num_tokens in self._plan.prefill:
            self._model.prefill(min(num_tokens, _WARM_UP_TOKENS))
            timings = [self._model.prefill(num_tokens) for _ in range(self._plan.repeat)]
            yield self._keep("prefill", self._prefill_row(num_tokens, timings))
        num_steps = self._plan.decode_tokens
        for context, batch in self._plan.cells:
            self._model.decode(context, batch, num_steps)
            timings = [self._model.decode(context, batch, num_steps) for _ in range(self._plan.repeat)]
            yield self._keep("decode", self._decode_row(context, batch, timings))

    def report(self) -> Report:
        """All that was measured so far."""
        model = self._model
        return Report(
            model=model.name,
            size_label=model.size_label,
            format=model.main_format,
            kv_bits=model.kv_bits,
            weight_bytes=model.weight_bytes,
            machine=_median(self._machines),
            prefill=tuple(self._rows["prefill"]),
            decode=tuple(self._rows["decode"]),
        )

    def _keep(self, phase: Phase, row: Row) -> tuple[Phase, Row]:
        self._rows[phase].append(row)
        return phase, row

    def _prefill_row(self, num_tokens: int, timings: Sequence[Timing]) -> Row:
        products = self._body_products * num_tokens + self._head_products
        return self._row(timings, num_tokens, 0, 1, products)

    def _decode_row(self, context: int, batch: int, timings: Sequence[Timing]) -> Row:
        num_steps, model = self._plan.decode_tokens, self._model
        products = (self._body_products + self._head_products) * batch * num_steps
        row = self._row(timings, num_steps, context, batch, products)
        of_states = 2 * model.state_bytes + model.kv_bytes(context + num_steps // 2)  # a state is read and written
        step_bytes = timings[0].weight_bytes // num_steps + batch * of_states
        gb_per_s = step_bytes * row.tokens_per_s / batch * 1e-9
        outside = statistics.median((timing.seconds - timing.busy_s) / num_steps for timing in timings)
        return dataclasses.replace(
            row,
            step_bytes=step_bytes,
            share_of_read_bandwidth=gb_per_s / row.read_gb_per_s,
            outside_kernels_ms=outside * 1e3,
        )

    def _row(self, timings: Sequence[Timing], tokens: int, context: int, batch: int, products: int) -> Row:
        """What prompts and decode steps have in common; ``products`` is the multiply-adds of one timing."""
        self._machines.append(self._model.measure_machine())
        around = _median(self._machines[-2:])
        rates = sorted(tokens * batch / timing.seconds for timing in timings)
        gops = 2 * products / statistics.median(timing.seconds for timing in timings) * 1e-9
        is_float = FORMATS[self._model.main_format].is_float
        return Row(
            tokens=tokens,
            context=context,
            batch=batch,
            tokens_per_s=statistics.median(rates),
            slowest_tokens_per_s=rates[0],
            fastest_tokens_per_s=rates[-1],
            share_of_read_bandwidth=None,
            share_of_int8_peak=None if is_float else gops / around.int8_gops,
            share_of_float_peak=gops / around.float_gflops if is_float else None,
            step_bytes=None,
            outside_kernels_ms=None,
            read_gb_per_s=around.read_gb_per_s,
            int8_gops=around.int8_gops,
        )

    @property
    def _body_products(self) -> int:
        """Multiply-adds of one token in the body."""
        return parameter_count(self._model.config)["active"]

    @property
    def _head_products(self) -> int:
        """Multiply-adds of the logits of one token."""
        return self._model.config.vocab_size * self._model.config.width


def _whole_pages(num_tokens: int) -> int:
    return -(-num_tokens // PAGE_TOKENS) * PAGE_TOKENS


def _median(machines: Sequence[Machine]) -> Machine:
    """The machine with the median of every figure."""
    last = machines[-1]
    reads, ints, floats = zip(*(machine.limits for machine in machines), strict=True)
    median = statistics.median
    return dataclasses.replace(last, read_gb_per_s=median(reads), int8_gops=median(ints), float_gflops=median(floats))
