"""How many functions stand between the socket and the kernels, and between a token and the socket."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tools"))
import frames  # noqa: E402

MOST_OF_A_REQUEST, MOST_OF_A_REPLY, MOST_TO_THE_KERNEL = 10, 16, 14
"""The numbers of today; they only go down."""


@pytest.fixture(scope="module")
def stacks() -> frames.Stacks:
    return frames.record()


def test_a_request_passes_few_functions(stacks: frames.Stacks) -> None:
    found = frames.functions(stacks, frames.THERE)
    assert len(found) <= MOST_OF_A_REQUEST, found
    assert len(found) + len(frames.NATIVE) <= MOST_TO_THE_KERNEL
    assert "CpuOps.run_layers" in found[-1]


def test_a_reply_passes_few_functions(stacks: frames.Stacks) -> None:
    found = frames.functions(stacks, frames.BACK)
    assert len(found) <= MOST_OF_A_REPLY, found


@pytest.mark.parametrize(("path", "name"), frames.NATIVE)
def test_the_native_functions_exist(path: str, name: str) -> None:
    assert re.search(rf"^\w.*\b{re.escape(name)}\(", (ROOT / path).read_text(), re.MULTILINE)
