"""Fixtures every test may use."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
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


_OTHERS_VARIABLES = (
    "HF_HOME",
    "HUGGINGFACE_HUB_CACHE",
    "HF_TOKEN",
    "HF_ENDPOINT",
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "LOQAL_OFFLINE",
    "XDG_CACHE_HOME",
    "XDG_DATA_HOME",
    "OLLAMA_MODELS",
    "LLAMA_CACHE",
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder all of a test's files are in; its hub cache is ``home/hub``."""
    for name in _OTHERS_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("LOQAL_HOME", str(tmp_path / "loqal"))
    monkeypatch.setattr("loqal.hub.paths.ollama_folders", lambda: [tmp_path / ".ollama" / "models"])
    return tmp_path
