"""How fast this machine reads and multiplies: measured once, kept, and measured again when the machine changes.

The figures belong to a processor, an instruction set and a number of threads. A kept file that is damaged or of another
machine counts as absent.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import asdict, dataclass

from loqal import settings
from loqal.hub import paths
from loqal.hub.provenance import now, read_json, write_json
from loqal.ops.choose import choose_ops
from loqal.ops.timing_interface import MeasuredOps
from loqal.system import hardware

_READ_BYTES = 1 << 29
_ROUNDS = 3
_MEASURE = "measure 1"  # raised when the way of measuring changes


@dataclass(frozen=True, slots=True)
class MachineSpeed:
    """The measured limits of a machine, and when they were measured."""

    read_gb_per_s: float
    int8_gops: float
    float_gflops: float
    measured: str


def key(isa: str, threads: int) -> str:
    """What the figures belong to."""
    return f"{hardware.cpu_model()}, {isa}, {threads} threads, {_MEASURE}"


def measured(ops: MeasuredOps | None = None, *, again: bool = False) -> MachineSpeed:
    """The machine's speeds: those kept, or measured now, which takes about two seconds."""
    ops = native_ops() if ops is None else ops
    kept = read_json(paths.measured_file()) or {}
    entry = kept.get(key(ops.isa, ops.threads))
    if not again and isinstance(entry, dict):
        with contextlib.suppress(TypeError, KeyError, ValueError):
            values = {name: float(entry[name]) for name in ("read_gb_per_s", "int8_gops", "float_gflops")}
            if min(values.values()) > 0:
                return MachineSpeed(**values, measured=str(entry["measured"]))
    found = _measure(ops)
    with contextlib.suppress(OSError):  # a folder that cannot be written costs the measurement next time, nothing more
        write_json(paths.measured_file(), {**kept, key(ops.isa, ops.threads): asdict(found)})
    return found


def native_ops(isa: str | None = None, threads: int | None = None) -> MeasuredOps:
    """The native kernels, as the environment sets them. Raises RequestError for what this machine lacks."""
    chosen = settings.resolve({"isa": isa, "threads": threads}, os.environ)
    ops = choose_ops("cpu", isa=chosen.isa, threads=chosen.threads)
    assert isinstance(ops, MeasuredOps)
    return ops


def _measure(ops: MeasuredOps) -> MachineSpeed:
    """The best of a few rounds: what the machine can do, not what its neighbours leave at one moment."""
    num_bytes = max(_READ_BYTES, 2 * hardware.largest_cache_bytes())
    available = hardware.available_memory_bytes()
    num_bytes = num_bytes if available is None else min(num_bytes, available // 4)
    rounds = [(ops.read_gb_per_s(num_bytes), ops.int8_gops(), ops.float_gflops()) for _ in range(_ROUNDS)]
    reads, ints, floats = zip(*rounds, strict=True)
    return MachineSpeed(sorted(reads)[_ROUNDS // 2], max(ints), max(floats), now())
