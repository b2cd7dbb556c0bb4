"""Facts for a bug report: hardware, versions, settings and their sources; and advice on performance."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from loqal.errors import LoqalError
from loqal.hub import local_models, paths
from loqal.hub.provenance import read_json
from loqal.ops.timing_interface import MeasuredOps
from loqal.performance import machine_speed
from loqal.settings import SETTINGS
from loqal.system import hardware
from loqal.system.memory import machine_bytes

_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
_SLOW_READ_GB_PER_S = 10.0
_PACKAGES = ("numpy", "tokenizers", "jinja2", "huggingface_hub", "prompt_toolkit")


Note = Callable[[str, str, object], None]
"""Takes section, name and value of a fact."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact, under its heading."""

    section: str
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All facts, and advice."""

    findings: tuple[Finding, ...]
    advice: tuple[str, ...]


def diagnose(environment: Mapping[str, str] = os.environ, *, measure: bool = True) -> Diagnosis:
    """Look at this machine and installation. Never raises: what cannot be found out is said so."""
    found: list[Finding] = []
    advice: list[str] = []

    def note(section: str, name: str, value: object) -> None:
        found.append(Finding(section, name, str(value)))

    note("versions", "loqal", _version("loqal"))
    note("versions", "python", f"{platform.python_version()} ({sys.platform}, {platform.machine()})")
    for package in _PACKAGES:
        note("versions", package, _version(package))
    _hardware(note, advice)
    _kernels(note, advice, environment, measure=measure)
    for setting in SETTINGS:
        given = environment.get(setting.env)
        note("settings", setting.name, f"{given} (from {setting.env})" if given else f"{setting.default} (default)")
    _models(note, environment)
    return Diagnosis(tuple(found), tuple(advice))


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _hardware(note: Note, advice: list[str]) -> None:
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    allowed, available = machine_bytes(), hardware.available_memory_bytes()
    note("hardware", "processor", hardware.cpu_model())
    note("hardware", "processors", f"{os.cpu_count()} in all, {len(_affinity())} allowed to this process")
    note("hardware", "largest cache", f"{hardware.largest_cache_bytes() / 2**20:.0f} MiB")
    limit = "" if allowed == physical else f", a container allows {allowed / 1e9:.1f} GB"
    free = "" if available is None else f", {available / 1e9:.1f} GB free now"
    note("hardware", "memory", f"{physical / 1e9:.1f} GB{limit}{free}")
    for gpu in hardware.gpus():
        memory = f"{gpu.memory_bytes / 1e9:.1f} GB, {gpu.free_bytes / 1e9:.1f} GB free"
        note("hardware", "graphics", f"{gpu.name}, {memory}; not used: loqal runs on the CPU")
    huge = _chosen(_HUGE_PAGES)
    note("hardware", "huge pages", huge or "unknown")
    if huge == "never":
        advice.append(
            "Enable huge pages, which saves about 5 % of the time: "
            "write madvise to /sys/kernel/mm/transparent_hugepage/enabled."
        )
    governor = _GOVERNOR.read_text().strip() if _GOVERNOR.is_file() else None
    if governor:
        note("hardware", "frequency governor", governor)
        if governor == "powersave":
            advice.append("The CPU frequency governor is powersave: performance may be faster.")


def _kernels(note: Note, advice: list[str], environment: Mapping[str, str], *, measure: bool) -> None:
    try:
        ops = machine_speed.native_ops(environment.get("LOQAL_ISA") or None, _threads(environment))
        isas = ops.usable_isas
    except LoqalError as error:
        note("kernels", "native kernels", f"cannot be used: {error.what} {error.why}")
        advice.append(error.fix)
        return
    forced = environment.get("LOQAL_ISA")
    why = f"from LOQAL_ISA; the best of this machine is {isas[0]}" if forced else "the best of this machine"
    note("kernels", "instruction set", f"{ops.isa} ({why})")
    note("kernels", "usable", ", ".join(isas))
    why = "from LOQAL_THREADS" if environment.get("LOQAL_THREADS") else "CPU affinity and quota"
    note("kernels", "threads", f"{ops.threads} ({why})")
    if forced and forced != isas[0]:
        advice.append(f"Unset LOQAL_ISA: {isas[0]} is faster than {forced}, with the same answers.")
    if isas[0] == "plain":
        advice.append(
            "Only the portable kernels run here: loqal has none for this processor, or was built without them."
        )
    if ops.threads > len(_affinity()):
        advice.append(f"{ops.threads} threads on {len(_affinity())} processors compete for time: lower LOQAL_THREADS.")
    _measured(note, advice, ops, measure=measure)


def _measured(note: Note, advice: list[str], ops: MeasuredOps, *, measure: bool) -> None:
    path = paths.measured_file()
    if path.exists() and read_json(path) is None:
        note("kernels", "kept measurements", f"{path} is damaged and will be replaced")
    if not measure:
        return
    speed = machine_speed.measured(ops)
    note("kernels", "reads memory", f"{speed.read_gb_per_s:.1f} GB/s (measured {speed.measured})")
    note("kernels", "int8 peak", f"{speed.int8_gops:,.0f} GOPS")
    note("kernels", "float peak", f"{speed.float_gflops:,.0f} GFLOPS")
    if speed.read_gb_per_s < _SLOW_READ_GB_PER_S:
        advice.append(
            f"Memory reads at {speed.read_gb_per_s:.0f} GB/s, which limits decode speed: "
            "a quantization with fewer bits helps most."
        )


def _models(note: Note, environment: Mapping[str, str]) -> None:
    note("models", "hub cache", paths.hub_cache())
    note("models", "own folder", paths.own_folder())
    network = "disabled" if paths.is_offline(environment) else "used by pull, run NAME, serve NAME and repair"
    note("models", "network", network)
    try:
        models = local_models.all_models()
    except OSError as error:
        note("models", "found", f"cannot be listed: {error}")
        return
    names = ", ".join(f"{model.name} ({model.origin})" for model in models)
    note("models", "found", names or "none; loqal pull qwen3.5 fetches one")


def _affinity() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def _threads(environment: Mapping[str, str]) -> int | None:
    given = environment.get("LOQAL_THREADS", "")
    return int(given) if given.isdigit() and int(given) > 0 else None


def _chosen(path: Path) -> str | None:
    """The word in brackets."""
    try:
        text = path.read_text()
    except OSError:
        return None
    return text.partition("[")[2].partition("]")[0] or None
