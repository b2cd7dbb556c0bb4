"""The backends the operation tests run on: the reference, and the CPU kernels once per instruction set."""

from __future__ import annotations

import functools

import pytest

from loqal.ops.backends.cpu import CpuOps, available_isas
from loqal.ops.backends.reference import ReferenceOps
from loqal.ops.interface import Ops

REFERENCE = ReferenceOps()
CPU_BACKENDS = [f"cpu-{isa}" for isa in available_isas()]

on_cpu = pytest.mark.parametrize("backend", CPU_BACKENDS)
"""Run a test on the CPU kernels, once per instruction set."""

on_all = pytest.mark.parametrize("backend", ["reference", *CPU_BACKENDS])
"""Run a test on every backend, the reference included."""


@functools.cache
def backend_ops(backend: str, threads: int = 1) -> Ops:
    """The backend called "reference" or "cpu-<isa>"."""
    if backend == "reference":
        return REFERENCE
    return CpuOps(isa=backend.removeprefix("cpu-"), threads=threads)
