"""Plans: one model explained line by line, or every published size and quantization in a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from loqal.engine.memory_plan import default_kv_bits
from loqal.errors import RequestError
from loqal.hub import catalog
from loqal.hub.names import parse
from loqal.hub.recommend import choose
from loqal.model.config import ModelConfig
from loqal.ops.interface import PAGE_TOKENS
from loqal.ops.timing_interface import MeasuredOps
from loqal.performance import machine_speed, memory_report
from loqal.performance.kernel_rates import KernelRates, measured
from loqal.performance.predict import Speed, predict
from loqal.performance.weight_mix import Weights, of_checkpoint, of_release
from loqal.runtime.open_model import find
from loqal.settings import Settings
from loqal.system import hardware
from loqal.system.memory import machine_bytes
from loqal.weights.load import open_checkpoint

_KEPT_PICTURES = Settings().media_cache_bytes
SPARE_SHARE = 0.9  # of the memory that a plan may fill; the rest is the system's


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What a plan is for. ``kv_bits`` None follows the weights."""

    context_len: int = 8192
    users: int = 1
    kv_bits: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What one model needs, and how fast it will be."""

    name: str
    size: str | None
    quant: str | None
    file_bytes: int
    context_len: int
    users: int
    kv_bits: int
    lines: tuple[memory_report.Line, ...]
    resident_bytes: int
    picture_lines: tuple[memory_report.Line, ...]  # what pictures take beyond that
    speed: Speed
    fits: bool
    largest_context: int  # that fits with so many users, 0 when none does
    most_users: int  # that fit with this context


class Planner:
    """Plans for this machine. The machine is measured at first use, and what was measured is kept.

    Args:
        memory_bytes: what may be used; by default what the machine or its container allows.
        again: measure again.
        note: told what is being measured.

    Attributes:
        machine: what plans are for.
        memory_bytes: what may be used.
        gpus: the GPUs of the machine; nothing of a plan uses them.
    """

    def __init__(
        self, *, memory_bytes: int | None = None, again: bool = False, note: Callable[[str], None] | None = None
    ) -> None:
        self._ops: MeasuredOps = machine_speed.native_ops()
        self._note, self._again = note, again
        self._rates = KernelRates()
        self.machine = machine_speed.measured(self._ops, again=again)
        self.memory_bytes = memory_bytes or machine_bytes()
        self.gpus = tuple(hardware.gpus())

    def plan(self, name: str | None, wish: PlanRequest | None = None) -> Plan:
        """The plan of a model on this machine, or of a published one that need not be here.

        Raises:
            CheckpointError: there is no such model.
            RequestError: context or users make no sense.
        """
        wanted = parse(name) if name else None
        if wanted is not None and wanted.size is not None and wanted.quant is not None:
            config, weights = of_release(wanted.size, wanted.quant)
            return self._plan(str(name), config, weights, wanted.size, wanted.quant, wish)
        if wanted is not None and wanted.repo is None:
            chosen = self.recommended(wanted.size)
            config, weights = of_release(*chosen)
            return self._plan(str(name), config, weights, *chosen, wish)
        found = find(name)
        checkpoint = open_checkpoint(found.path, mmproj=found.mmproj)
        try:
            config, weights = of_checkpoint(checkpoint)
            label, size = checkpoint.name, checkpoint.size_label
        finally:
            checkpoint.close()
        return self._plan(label, config, weights, size, None, wish)

    def all_releases(self, wish: PlanRequest | None = None) -> list[Plan]:
        """The plans of published sizes in their usual quantizations, smallest first."""
        releases = catalog.releases()
        plans = []
        for size in releases:
            for file in releases[size].files:
                if not file.quant.startswith("UD-IQ"):
                    config, weights = of_release(size, file.quant)
                    name = f"{catalog.FAMILY}:{size.lower()}-{file.quant.lower()}"
                    plans.append(self._plan(name, config, weights, size, file.quant, wish))
        return plans

    def recommended(self, size: str | None = None) -> tuple[str, str]:
        """The size and quantization that ``loqal run`` would take. Raises CapacityError when nothing fits."""
        chosen = choose(self.memory_bytes, self.machine.read_gb_per_s, memory_report.needed_bytes, size)
        return chosen.size, chosen.quant

    def _plan(
        self,
        name: str,
        config: ModelConfig,
        weights: Weights,
        size: str | None,
        quant: str | None,
        wish: PlanRequest | None,
    ) -> Plan:
        wish = wish or PlanRequest()
        context_len, users = wish.context_len, wish.users
        if not 1 <= context_len <= max(config.context_len, 1_010_000) or users < 1:
            raise RequestError(
                f"The plan is for {users} users with {context_len} tokens each.",
                f"The model was made for 1 to {config.context_len} tokens; there must be a user.",
                "Choose other numbers.",
            )
        self._rates = measured(self._ops, weights.formats, again=self._again, note=self._note)
        self._again = False
        bits = wish.kv_bits or default_kv_bits(weights.by_name["embed"])
        limit = int(self.memory_bytes * SPARE_SHARE)
        plan = memory_report.account(
            config,
            self._ops,
            weights,
            context_len=context_len,
            users=users,
            kv_bits=bits,
            limit_bytes=limit,
            image_bytes=_KEPT_PICTURES,
        )
        resident = plan.filled_bytes(users, context_len)
        spare_pages = (limit - plan.filled_bytes(users, 0)) // (users * plan.page_bytes)
        return Plan(
            name=name,
            size=size,
            quant=quant,
            file_bytes=weights.file_bytes,
            context_len=context_len,
            users=users,
            kv_bits=bits,
            lines=tuple(memory_report.lines(plan, weights.formats, users)),
            picture_lines=tuple(memory_report.picture_lines(plan, config)),
            resident_bytes=resident,
            speed=predict(config, weights, self._rates, self.machine, context=0, kv_bits=bits),
            fits=resident <= limit,
            largest_context=min(config.context_len, max(0, spare_pages) * PAGE_TOKENS),
            most_users=memory_report.most_users(plan, users, limit),
        )
