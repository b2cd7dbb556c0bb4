"""The types of the extension, which nanobind writes: the file in the repository is the one it would write now."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from loqal.ops import _kernels

WRITER = "3.1.0"  # another version may word the same types differently


def test_the_stub_is_what_nanobind_writes(tmp_path: Path) -> None:
    nanobind = pytest.importorskip("nanobind")
    if nanobind.__version__ != WRITER:
        pytest.skip(f"the stub was written by nanobind {WRITER}, this is {nanobind.__version__}")
    out = tmp_path / "_kernels.pyi"
    command = [sys.executable, "-m", "nanobind.stubgen", "-q", "-m", _kernels.__name__, "-o", str(out)]
    subprocess.run(command, check=True, timeout=120)
    assert _kernels.__file__ is not None
    checked_in = Path(_kernels.__file__).with_name("_kernels.pyi")
    assert out.read_text() == checked_in.read_text(), "make it anew: cmake --build BUILD --target stubs"
