"""Fixtures every test may use."""

from __future__ import annotations

import sys
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


# Tests that need neither the compiled extension nor a server are marked `unit`: those in these folders, apart from
# these files, which do need the extension.
UNIT_FOLDERS = (
    *("chat", "cli", "engine", "evaluation", "formats", "hub", "media", "model", "ops", "performance", "quantize"),
    *("runtime", "server", "state", "system", "testing", "types", "weights"),
)
NATIVE_FILES = (
    *("engine/test_engine_properties.py", "engine/test_memory_plan.py", "engine/test_scheduling.py"),
    *("engine/speculation/test_drafting.py", "hub/test_local_models.py", "model/test_golden.py"),
    *("model/test_golden_llama_cpp.py", "model/test_golden_vision.py", "model/test_invariants.py", "ops/test_bits.py"),
    *("ops/test_layers.py", "ops/test_linear.py", "ops/test_mixers.py", "ops/test_packed_file.py"),
    *("ops/test_constants.py", "ops/test_kernel_stubs.py", "server/shared/test_generation_request.py"),
    *(
        "hub/test_names.py",
        "runtime/test_memory_needs.py",
        "ops/test_packing.py",
        "ops/test_small.py",
        "ops/test_vision_ops.py",
        "ops/backends/test_native_encoder.py",
    ),
    *("performance/test_bench.py", "performance/test_planner.py", "quantize/test_quantize.py", "runtime/test_api.py"),
    *("runtime/test_media_encoder.py", "runtime/test_reply_options.py", "runtime/test_runtime.py"),
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--schemas", type=int, default=200, help="random schemas that replies are held to")
    parser.addoption("--json-schema-suite", help="folder with the tests of the JSON Schema Test Suite")
    parser.addoption("--spellings", type=int, default=200, help="random spellings of tool calls")
    parser.addoption("--without-extension", action="store_true", help="as if loqal.ops._kernels were not there")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--without-extension"):
        sys.modules["loqal.ops._kernels"] = None  # type: ignore[assignment] # so that importing it fails


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Without the extension, files that need it cannot be imported."""
    if not config.getoption("--without-extension") or collection_path.suffix != ".py":
        return None
    return not is_unit(collection_path) or None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if is_unit(item.path):
            item.add_marker(pytest.mark.unit)


def is_unit(path: Path) -> bool:
    """Whether the tests of a file need neither the extension nor a server."""
    place = path.relative_to(Path(__file__).parent)
    if len(place.parts) == 1:
        return place.name in ("test_docs.py", "test_mirror.py")
    return place.parts[0] in UNIT_FOLDERS and place.as_posix() not in NATIVE_FILES


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
