"""Fixtures every test may use."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers that depend on the test's name alone."""
    return np.random.default_rng(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture
def poison_memory(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A function from whose call on fresh arrays of ``numpy.empty`` hold NaN in every float format, -1 as integers."""

    def poisoned(make: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
        def make_poisoned(*args: Any, **kwargs: Any) -> np.ndarray:
            array = make(*args, **kwargs)
            if array.dtype != object:
                array.reshape(-1).view(np.uint8)[:] = 0xFF
            return array

        return make_poisoned

    def poison() -> None:
        monkeypatch.setattr(np, "empty", poisoned(np.empty))
        monkeypatch.setattr(np, "empty_like", poisoned(np.empty_like))

    return poison


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--schemas", type=int, default=200, help="random schemas that replies are held to")
