"""Measuring interface of backends: peak rates of the machine, and counters of work done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from loqal.ops.interface import Ops, Weight


@dataclass(frozen=True, slots=True)
class WorkDone:
    """Counters since the backend was created."""

    busy_s: float  # inside operations, without the Python between them
    weight_bytes: int  # of the weights that operations multiplied with; a weight counts once a call


@runtime_checkable
class MeasuredOps(Ops, Protocol):
    """A backend that knows the speed of its machine and counts its own work."""

    isa: str
    threads: int
    usable_isas: tuple[str, ...]  # instruction sets of this machine, best first

    def read_gb_per_s(self, num_bytes: int) -> float:
        """Measure how fast all threads together read ``num_bytes`` bytes of memory in order, in 10^9 bytes/s."""
        ...

    def int8_gops(self) -> float:
        """Measure the peak of int8 products, a multiply and an add counted as two, in 10^9/s."""
        ...

    def float_gflops(self) -> float:
        """Measure the peak of float32 multiply-adds, counted as two, in 10^9/s."""
        ...

    def weight_bytes_of(self, weight: Weight) -> int:
        """Bytes a packed weight takes."""
        ...

    def work_done(self) -> WorkDone:
        """The counters."""
        ...
