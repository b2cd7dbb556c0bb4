"""Hardware of this machine, as the operating system reports it. None of it is needed to run a model."""

from __future__ import annotations

import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_CPU_INFO = Path("/proc/cpuinfo")
_MEMORY_INFO = Path("/proc/meminfo")
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_CARDS = Path("/sys/class/drm")
_NVIDIA = ("nvidia-smi", "--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits")
_NVIDIA_S = 10.0  # to wait for an answer: a driver that wakes up takes seconds


@dataclass(frozen=True, slots=True)
class Gpu:
    """A graphics processor with memory of its own. No backend of loqal uses it."""

    name: str
    memory_bytes: int
    free_bytes: int


def cpu_model() -> str:
    """The name of the processor; its architecture where the system gives no name."""
    return _field(_CPU_INFO, "model name") or _field(_CPU_INFO, "Model") or platform.processor() or platform.machine()


def largest_cache_bytes() -> int:
    """Bytes of the largest cache of one core, shared or not; 0 when unknown."""
    sizes = [0]
    for path in _CACHES.glob("index*/size"):
        text = path.read_text().strip()
        if text[-1:] in _UNITS and text[:-1].isdigit():
            sizes.append(int(text[:-1]) * _UNITS[text[-1]])
    return max(sizes)


def available_memory_bytes() -> int | None:
    """Memory that can be allocated without swapping; None when unknown."""
    value = _field(_MEMORY_INFO, "MemAvailable")
    return int(value.split()[0]) * 1024 if value else None


def gpus() -> list[Gpu]:
    """Graphics processors and their memory, as the drivers of NVIDIA and AMD report; no library of theirs is loaded."""
    return _nvidia_gpus() + _amd_gpus()


def _nvidia_gpus() -> list[Gpu]:
    if shutil.which(_NVIDIA[0]) is None:
        return []
    try:
        shown = subprocess.run(_NVIDIA, capture_output=True, text=True, check=True, timeout=_NVIDIA_S).stdout
        rows = [line.rsplit(",", 2) for line in shown.splitlines() if line.strip()]
        return [Gpu(name.strip(), int(total) << 20, int(free) << 20) for name, total, free in rows]
    except (OSError, subprocess.SubprocessError, ValueError):
        return []  # a driver that does not answer, or does not say how much memory there is


def _amd_gpus() -> list[Gpu]:
    found = []
    for total in sorted(_CARDS.glob("card*/device/mem_info_vram_total")):
        try:
            size, used = (int(path.read_text()) for path in (total, total.with_name("mem_info_vram_used")))
        except (OSError, ValueError):
            continue
        found.append(Gpu(f"AMD, {total.parent.parent.name}", size, size - used))
    return found


def _field(path: Path, name: str) -> str | None:
    """The value after the first ``name :`` of a file of such lines."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        key, colon, value = line.partition(":")
        if colon and key.strip() == name:
            return value.strip()
    return None
