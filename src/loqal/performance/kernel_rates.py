"""How fast the kernels of this machine really are: measured once on weights of the right formats, then kept.

A prediction built from the memory's bandwidth alone would have to guess what share of it a kernel reaches, which
differs by format, machine and version. Weights larger than the caches together say it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from loqal.engine.options import CHUNK_TOKENS
from loqal.engine.step_batch import Run, build
from loqal.formats import FORMATS, num_bytes
from loqal.formats.tensor import Tensor
from loqal.hub import paths
from loqal.hub.provenance import now, read_json, write_json
from loqal.model.config import ModelConfig
from loqal.ops.interface import FloatArray, StepBatch, Weight
from loqal.ops.records import DeltaMixer, DeltaWeights
from loqal.ops.timing_interface import MeasuredOps
from loqal.performance.machine_speed import key
from loqal.state.store import SequenceState
from loqal.system import hardware

_INPUTS = 2048
_DECODE_BYTES = 512 << 20  # of weights in turn: more than caches hold, as those of a model
_NUM_WEIGHTS = 4
_SMALL = (3584, 1024)  # a weight of the smallest size, whose multiplication is short enough to see its beginning
_PREFILL_ROWS = 4096
_KEPT = "kernels 3"  # raised when the way of measuring changes
_SHAPE = ModelConfig(
    width=64,
    layers=("delta",),
    vocab_size=64,
    num_heads=2,
    num_kv_heads=1,
    num_key_heads=16,
    num_value_heads=16,
    ffn_width=64,
    experts=None,
    tied_head=True,
).delta_shape
_NUM_STATES = 24  # stores of one slot, so that the states of a model are read from where they would be


@dataclass(frozen=True, slots=True)
class FormatRate:
    """One weight format on this machine."""

    bits: float  # a packed weight takes
    decode_gb_per_s: float  # of packed bytes, one row
    prefill_gops: float  # many rows, a multiply and an add counted as two


@dataclass(slots=True)
class KernelRates:
    """All that was measured. ``formats`` grows as formats are asked for."""

    call_us: float = 0.0  # that an operation takes beside its work: from Python to all threads and back
    delta_step_us: float = 0.0  # the recurrence of one token, a value head
    delta_chunk_us: float = 0.0  # the same for each of many tokens
    formats: dict[str, FormatRate] = field(default_factory=dict)
    measured: str = ""


def measured(
    ops: MeasuredOps, formats: Iterable[str], *, again: bool = False, note: Callable[[str], None] | None = None
) -> KernelRates:
    """The rates of some formats and of the recurrence: those kept, the others measured now (half a second each)."""
    kept = read_json(paths.measured_file()) or {}
    name = f"{key(ops.isa, ops.threads)}, {_KEPT}"
    rates = KernelRates() if again else _parse(kept.get(name))
    # Q4_K in any case: what a call takes is measured with it.
    missing = [format for format in dict.fromkeys((*formats, "Q4_K")) if format not in rates.formats]
    if not missing and rates.call_us > 0:
        return rates
    if note:
        note(f"measuring the kernels of this machine for {', '.join(missing)}, once")
    for format in missing:
        rates.formats[format] = _format_rate(ops, format)
    if rates.call_us == 0:
        rates.call_us = _call_us(ops, rates.formats["Q4_K"])
        rates.delta_step_us, rates.delta_chunk_us = _delta_us(ops, 1), _delta_us(ops, 256)
    rates.measured = now()
    with contextlib.suppress(OSError):
        write_json(paths.measured_file(), {**(read_json(paths.measured_file()) or {}), name: asdict(rates)})
    return rates


def _parse(kept: object) -> KernelRates:
    try:
        assert isinstance(kept, dict)
        rates = KernelRates(
            float(kept["call_us"]),
            float(kept["delta_step_us"]),
            float(kept["delta_chunk_us"]),
            {},
            str(kept["measured"]),
        )
        for format, entry in kept["formats"].items():
            rate = FormatRate(**{name: float(value) for name, value in entry.items()})
            if format in FORMATS and min(rate.bits, rate.decode_gb_per_s, rate.prefill_gops) > 0:
                rates.formats[format] = rate
    except (AssertionError, KeyError, TypeError, ValueError, AttributeError):
        return KernelRates()
    return rates


def _format_rate(ops: MeasuredOps, format: str) -> FormatRate:
    entry = FORMATS[format]
    row_bytes = _INPUTS // entry.block_len * entry.block_bytes
    rows = max(_PREFILL_ROWS, _decode_bytes() // _NUM_WEIGHTS // row_bytes // 64 * 64)
    weights = [ops.pack_weight(_zeros(format, rows, _INPUTS)) for _ in range(_NUM_WEIGHTS)]
    packed = sum(ops.weight_bytes_of(weight) for weight in weights)
    seconds = _seconds_of_all(ops, weights, _ones(1, _INPUTS))
    weights = [ops.pack_weight(_zeros(format, _PREFILL_ROWS, _INPUTS))]
    chunk_s = _seconds_of_all(ops, weights, _ones(CHUNK_TOKENS, _INPUTS))
    return FormatRate(
        bits=8 * packed / (_NUM_WEIGHTS * rows * _INPUTS),
        decode_gb_per_s=packed / seconds * 1e-9,
        prefill_gops=2 * CHUNK_TOKENS * _PREFILL_ROWS * _INPUTS / chunk_s * 1e-9,
    )


def _seconds_of_all(ops: MeasuredOps, weights: Sequence[Weight], x: FloatArray) -> float:
    def multiply() -> None:
        for weight in weights:
            ops.linear(x, (weight,))

    return _timed(multiply)


def _decode_bytes() -> int:
    """What is measured with, less where memory is short."""
    available = hardware.available_memory_bytes()
    return _DECODE_BYTES if available is None else min(_DECODE_BYTES, available // 4)


def _zeros(format: str, rows: int, inputs: int) -> Tensor:
    data = np.zeros(num_bytes(format, (rows, inputs)), np.uint8)
    return Tensor("measured", format, (rows, inputs), data, "zeros")


def _ones(rows: int, cols: int) -> FloatArray:
    return np.random.default_rng(0).standard_normal((rows, cols), np.float32)


def _call_us(ops: MeasuredOps, rate: FormatRate) -> float:
    """What is left of the time of many small multiplications when the reading is taken off."""
    count = _decode_bytes() // 2 // num_bytes("Q4_K", _SMALL)
    weights = [ops.pack_weight(_zeros("Q4_K", *_SMALL)) for _ in range(count)]
    packed = sum(ops.weight_bytes_of(weight) for weight in weights)
    seconds = _seconds_of_all(ops, weights, _ones(1, _SMALL[1]))
    return min(100.0, max(1.0, (seconds - packed / (rate.decode_gb_per_s * 1e9)) / count * 1e6))


def _delta_us(ops: MeasuredOps, tokens: int) -> float:
    """Microseconds of the recurrence, a token and value head."""
    heads, keys = _SHAPE.num_value_heads, _SHAPE.num_key_heads
    channels = 2 * keys * _SHAPE.key_dim + heads * _SHAPE.value_dim
    rng = np.random.default_rng(0)
    small = DeltaWeights(
        conv=rng.standard_normal((4, channels), np.float32) * np.float32(0.5),
        a=-np.ones(heads, np.float32),
        dt_bias=np.full(heads, -4, np.float32),
        norm=np.ones(_SHAPE.value_dim, np.float32),
    )
    stores = [ops.new_slots(1, _SHAPE) for _ in range(_NUM_STATES)]
    batch = _batch(tokens)
    inputs = [_ones(tokens, width) for width in (channels, heads * _SHAPE.value_dim, heads, heads)]
    mixer = DeltaMixer((None, None, None, None), small, None, _SHAPE)  # the recurrence alone needs no projection

    def all_states() -> None:
        for slots in stores:
            ops.gated_delta(inputs, mixer, slots, batch, 1e-6)

    return _timed(all_states) / (_NUM_STATES * tokens * heads) * 1e6


def _batch(tokens: int) -> StepBatch:
    state = SequenceState(0, list(range(-(-tokens // 64))))
    positions = np.repeat(np.arange(tokens, dtype=np.int32)[:, None], 3, axis=1)
    return build([Run(state, [0] * tokens, positions, [])])


def _timed(work: Callable[[], object], *, at_least: int = 7, at_most_s: float = 0.25) -> float:
    """The lower quartile of several runs after a first one, in seconds: neighbours disturb some of them."""
    work()
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < at_least or (time.perf_counter() - started < at_most_s and len(times) < 200):
        before = time.perf_counter()
        work()
        times.append(time.perf_counter() - before)
    return sorted(times)[len(times) // 4]
