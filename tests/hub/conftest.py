"""A home of its own for every test of the hub: nothing outside it is read or written."""

from __future__ import annotations

from pathlib import Path

import pytest

_OF_OTHERS = (
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
    for name in _OF_OTHERS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("LOQAL_HOME", str(tmp_path / "loqal"))
    monkeypatch.setattr("loqal.hub.paths.ollama_folders", lambda: [tmp_path / ".ollama" / "models"])
    return tmp_path
