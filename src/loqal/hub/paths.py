"""Standard directories of models and records, from the environment or by default. Creates nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def hub_cache(environment: Mapping[str, str] = os.environ) -> Path:
    """The cache that tools of the hub share."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if environment.get(name):
            return Path(environment[name]).expanduser()
    home = environment.get("HF_HOME")
    return (Path(home).expanduser() if home else _cache(environment) / "huggingface") / "hub"


def own_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Where loqal keeps links to imported models and what it knows of files."""
    if environment.get("LOQAL_HOME"):
        return Path(environment["LOQAL_HOME"]).expanduser()
    data = environment.get("XDG_DATA_HOME")
    return (Path(data) if data else _home(environment) / ".local" / "share") / "loqal"


def measured_file(environment: Mapping[str, str] = os.environ) -> Path:
    """Where the speeds measured on this machine are kept."""
    if environment.get("LOQAL_HOME"):
        return Path(environment["LOQAL_HOME"]).expanduser() / "machine.json"
    return _cache(environment) / "loqal" / "machine.json"


def ollama_folders(environment: Mapping[str, str] = os.environ) -> list[Path]:
    """Folders with ``manifests`` and ``blobs``."""
    if environment.get("OLLAMA_MODELS"):
        return [Path(environment["OLLAMA_MODELS"]).expanduser()]
    return [_home(environment) / ".ollama" / "models", Path("/usr/share/ollama/.ollama/models")]


def lm_studio_folders(environment: Mapping[str, str] = os.environ) -> list[Path]:
    """Folders with one folder a publisher, one a repository in it."""
    home = _home(environment)
    return [home / ".lmstudio" / "models", home / ".cache" / "lm-studio" / "models"]


def llama_cpp_folders(environment: Mapping[str, str] = os.environ) -> list[Path]:
    """Folders with files named owner_repo_file.gguf."""
    if environment.get("LLAMA_CACHE"):
        return [Path(environment["LLAMA_CACHE"]).expanduser()]
    return [_cache(environment) / "llama.cpp", _home(environment) / "Library" / "Caches" / "llama.cpp"]


def is_offline(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the user has forbidden the network, with the switches of the hub's own tools or with ours."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "LOQAL_OFFLINE")
    return any(environment.get(name, "").upper() in ("1", "ON", "YES", "TRUE") for name in names)


def _home(environment: Mapping[str, str]) -> Path:
    return Path(environment.get("HOME") or Path.home())


def _cache(environment: Mapping[str, str]) -> Path:
    cache = environment.get("XDG_CACHE_HOME")
    return Path(cache) if cache else _home(environment) / ".cache"
