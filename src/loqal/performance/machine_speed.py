"""How fast this machine reads and multiplies: measured once, kept, and measured again when the machine changes.

The figures belong to a processor, an instruction set and a number of threads. A kept file that is damaged or of another
machine counts as absent.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

from loqal import settings
from loqal.hub import paths
from loqal.hub.provenance import now, read_json, write_json
from loqal.ops.choose import choose_ops
from loqal.ops.timing_interface import MeasuredOps
from loqal.system import hardware

_READ_BYTES = 1 << 29  # many times what most machines cache
_ROUNDS = 3
_FIGURES = ("read_gb_per_s", "int8_gops", "float_gflops")
_MEASURE = "measure 2"  # raised when the way of measuring changes


@dataclass(frozen=True, slots=True)
class Machine:
    """A processor with an instruction set and some threads, what these reach together, and when that was measured."""

    cpu: str
    isa: str
    threads: int
    read_gb_per_s: float
    int8_gops: float
    float_gflops: float
    measured: str

    @property
    def limits(self) -> tuple[float, float, float]:
        """The measured figures, in the order of the fields."""
        return self.read_gb_per_s, self.int8_gops, self.float_gflops


def key(isa: str, threads: int) -> str:
    """What the figures belong to."""
    return f"{hardware.cpu_model()}, {isa}, {threads} threads, {_MEASURE}"


def measured(ops: MeasuredOps | None = None, *, again: bool = False) -> Machine:
    """The machine with the figures kept, or measured now, which takes about two seconds."""
    ops = native_ops() if ops is None else ops
    kept = read_json(paths.measured_file()) or {}
    entry = kept.get(key(ops.isa, ops.threads))
    if not again and isinstance(entry, dict):
        with contextlib.suppress(TypeError, KeyError, ValueError):
            values = {name: float(entry[name]) for name in _FIGURES}
            if min(values.values()) > 0:
                return Machine(hardware.cpu_model(), ops.isa, ops.threads, **values, measured=str(entry["measured"]))
    found = measure(ops, _ROUNDS)
    with contextlib.suppress(OSError):  # a folder that cannot be written costs the measurement next time, nothing more
        figures = {name: getattr(found, name) for name in (*_FIGURES, "measured")}
        write_json(paths.measured_file(), {**kept, key(ops.isa, ops.threads): figures})
    return found


def native_ops(isa: str | None = None, threads: int | None = None) -> MeasuredOps:
    """The native kernels, as the environment sets them. Raises RequestError for what this machine lacks."""
    chosen = settings.resolve({"isa": isa, "threads": threads}, os.environ)
    ops = choose_ops("cpu", isa=chosen.isa, threads=chosen.threads)
    assert isinstance(ops, MeasuredOps)
    return ops


def measure(ops: MeasuredOps, rounds: int = 1) -> Machine:
    """Measure the machine now: the best of some rounds, which other programs disturb least; of reading the median."""
    num_bytes = max(_READ_BYTES, 4 * hardware.largest_cache_bytes())
    available = hardware.available_memory_bytes()
    num_bytes = num_bytes if available is None else min(num_bytes, available // 4)
    found = [(ops.read_gb_per_s(num_bytes), ops.int8_gops(), ops.float_gflops()) for _ in range(rounds)]
    reads, ints, floats = zip(*found, strict=True)
    figures = sorted(reads)[rounds // 2], max(ints), max(floats)
    return Machine(hardware.cpu_model(), ops.isa, ops.threads, *figures, now())
