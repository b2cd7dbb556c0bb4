"""The backends the operation tests run on: the reference, and the CPU kernels once per instruction set."""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

import pytest

from loqal.ops.interface import Ops
from loqal.ops.reference import ReferenceOps

if importlib.util.find_spec("loqal.ops.cpu") is None:
    ISAS: list[str] = []
    CPU_PARAMS: list[Any] = [pytest.param("cpu", marks=pytest.mark.skip(reason="loqal.ops.cpu does not exist yet"))]
else:
    from loqal.ops import cpu

    ISAS = list(cpu.available_isas())
    CPU_PARAMS = [pytest.param(f"cpu-{isa}") for isa in ISAS]

REFERENCE = ReferenceOps()

on_cpu = pytest.mark.parametrize("backend", CPU_PARAMS)
"""Run a test on the CPU kernels, once per instruction set."""

on_all = pytest.mark.parametrize("backend", ["reference", *CPU_PARAMS])
"""Run a test on every backend, the reference included."""


@functools.cache
def backend_ops(backend: str, threads: int = 1) -> Ops:
    """The backend called "reference" or "cpu-<isa>"."""
    if backend == "reference":
        return REFERENCE
    return cpu.CpuOps(isa=backend.removeprefix("cpu-"), threads=threads)
