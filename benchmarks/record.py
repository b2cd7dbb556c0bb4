"""Where and under what conditions something was measured, and the files that keep it."""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from loqal.system import hardware
from loqal.system.memory import machine_bytes

RESULTS = Path(__file__).parent / "results"
Keep = Literal["if quiet", "always", "never"]
QUIET = 0.03
"""Share of all CPUs that other programs may take before a measurement does not count."""

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class OtherPrograms:
    """How busy the machine is with anything but this process and some others, between two calls.

    On a machine of few cores one busy stranger spoils every figure, since threads wait for the one it displaced.
    """

    def __init__(self, own_pids: Sequence[int] = ()) -> None:
        self._pids = (os.getpid(), *own_pids)
        self._start = self._ticks()

    def share(self) -> float:
        """Share of all CPUs taken by others since the beginning, stolen time of a virtual machine included."""
        total, busy, own = (now - then for now, then in zip(self._ticks(), self._start, strict=True))
        return max(0.0, (busy - own) / total) if total else 0.0

    def _ticks(self) -> tuple[int, int, int]:
        """Ticks of all CPUs: in all, busy, and busy for ourselves."""
        user, nice, system, idle, waiting, *rest = map(int, Path("/proc/stat").read_text().split()[1:9])
        busy = user + nice + system + sum(rest)
        own = 0
        for pid in self._pids:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            own += int(fields[11]) + int(fields[12])
        return busy + idle + waiting, busy, own


def conditions() -> dict[str, Any]:
    """The machine and the moment."""
    return {
        "cpu": hardware.cpu_model(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gb": round(machine_bytes() / 1e9, 1),
        "cache_mb": round(hardware.largest_cache_bytes() / 2**20),
        "system": platform.platform(),
        "python": platform.python_version(),
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def save(suite: str, name: str, result: Mapping[str, Any], *, others: float, keep: Keep = "if quiet") -> None:
    """Keep one result under its name in this machine's file of a suite. ``others`` is their share of the CPUs."""
    if keep == "never":
        return
    if others > QUIET and keep != "always":
        print(f"\nNot saved: other programs took {others:.0%} of the CPUs. Stop them and measure again.")
        return
    path = RESULTS / _folder_name() / f"{suite}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = json.loads(path.read_text()) if path.exists() else {}
    kept[name] = {"conditions": {**conditions(), "others_cpu_share": round(others, 4)}, **result}
    path.write_text(json.dumps(kept, indent=1) + "\n")
    print(f"\nSaved as {name!r} in {path}.")


def _folder_name() -> str:
    words = re.sub(r"\((r|tm)\)|processor|cpu|@.*", " ", hardware.cpu_model().lower())
    return "-".join([*re.findall(r"[a-z0-9]+", words), f"{len(os.sched_getaffinity(0))}cpu"])


def _commit() -> str:
    """The commit, with a plus when files differ from it."""
    here = Path(__file__).parent
    try:
        shown = subprocess.run(
            ["git", "describe", "--always", "--dirty=+"], cwd=here, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return shown.stdout.strip()
