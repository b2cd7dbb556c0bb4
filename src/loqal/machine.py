"""What this machine is, as far as the system tells. Nothing here is needed to run a model."""

from __future__ import annotations

import platform
from pathlib import Path

_CPU_INFO = Path("/proc/cpuinfo")
_MEMORY_INFO = Path("/proc/meminfo")
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def cpu_model() -> str:
    """The name of the processor; its architecture where the system gives no name."""
    return _field(_CPU_INFO, "model name") or _field(_CPU_INFO, "Model") or platform.processor() or platform.machine()


def largest_cache_bytes() -> int:
    """Bytes of the largest cache of one core, shared or not; 0 where the system does not say."""
    sizes = [0]
    for path in _CACHES.glob("index*/size"):
        text = path.read_text().strip()
        if text[-1:] in _UNITS and text[:-1].isdigit():
            sizes.append(int(text[:-1]) * _UNITS[text[-1]])
    return max(sizes)


def available_memory_bytes() -> int | None:
    """Memory that new allocations can have without swapping; None where the system does not say."""
    value = _field(_MEMORY_INFO, "MemAvailable")
    return int(value.split()[0]) * 1024 if value else None


def _field(path: Path, name: str) -> str | None:
    """The value behind the first ``name :`` of a file of such lines."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        key, colon, value = line.partition(":")
        if colon and key.strip() == name:
            return value.strip()
    return None
