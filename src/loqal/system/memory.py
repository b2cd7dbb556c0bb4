"""Memory of this process: its limit and its resident size."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def machine_bytes() -> int:
    """Memory this process may use: the machine's, or less where a container limits it."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for path in _limit_files():
        try:
            total = min(total, int(path.read_text()))
        except (OSError, ValueError):  # no such group, or "max"
            continue
    return total


def resident_bytes() -> int:
    """Resident bytes of this process."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _limit_files() -> list[Path]:
    """Files with the memory limits of this process's control group and its parents."""
    files = [_CGROUP / "memory.max", _CGROUP / "memory/memory.limit_in_bytes"]
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return files
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            root = _CGROUP if controllers == "" else _CGROUP / "memory"
            name = "memory.max" if controllers == "" else "memory.limit_in_bytes"
            group = root / path.lstrip("/")
            files += [parent / name for parent in (group, *group.parents) if root in (parent, *parent.parents)]
    return files
