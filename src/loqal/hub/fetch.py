"""Fetching a model by name: what the name stands for on this machine, then the files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from loqal.errors import RequestError
from loqal.hub import names, verify
from loqal.hub.catalog import FAMILY
from loqal.hub.download import Policy
from loqal.hub.local_models import LocalModel
from loqal.hub.pull import pull, select
from loqal.hub.recommend import NeededBytes
from loqal.system.memory import machine_bytes


@dataclass(frozen=True, slots=True)
class FileToFetch:
    """One file, as it is announced."""

    repo: str
    path: str
    size_bytes: int


class Fetching:
    """A name that was understood and looked up on the hub.

    Args:
        name: a name of the catalog, or ``owner/repo[:QUANT]``.
        read_gb_per_s: measures how fast this machine reads memory; called only where the name leaves the size open.
        needed_bytes: the memory a published file takes, see ``recommend.NeededBytes``.
        vision: whether a separate vision tower is fetched too.
        connections: parts of a file that are fetched at the same time.

    Attributes:
        files: what belongs to it; files that are here already cost nothing.
        why: what was chosen where the name left it open, and why.
        licence: as the repository states it.

    Raises:
        RequestError: the name is not one, or the network is switched off.
        CheckpointError: the hub does not have it, refuses it, or cannot be reached.
        CapacityError: nothing fits this machine.
    """

    def __init__(
        self,
        name: str,
        read_gb_per_s: Callable[[], float],
        needed_bytes: NeededBytes,
        *,
        vision: bool = True,
        connections: int = 4,
    ) -> None:
        wanted = names.parse(name)
        if wanted is None:
            raise RequestError(
                f"{name!r} is not a name that can be fetched.",
                f"Names are {FAMILY}, {FAMILY}:SIZE, {FAMILY}:SIZE-QUANT, owner/repo or owner/repo:QUANT.",
                f"Write for example {FAMILY}:4b.",
            )
        self._revision = wanted.revision
        self._policy = Policy(connections=connections)
        self._selection = select(wanted, machine_bytes(), read_gb_per_s, needed_bytes, vision=vision)
        self.files = [FileToFetch(file.repo, file.path, file.size_bytes) for file in self._selection.files]
        self.why, self.licence = self._selection.why, self._selection.repository.licence

    def run(self, progress: Callable[[str, int, int], None]) -> Path:
        """Fetch what is missing; ``progress`` gets path, bytes done and bytes in all. Returns the path to open.

        Raises:
            CapacityError: the disk is too small.
            CheckpointError: the server keeps failing; what arrived is kept.
        """
        return pull(
            self._selection,
            revision=self._revision,
            policy=self._policy,
            progress=lambda file, done: progress(file.path, done, file.size_bytes),
        )


def repair(model: LocalModel, verdicts: list[verify.Verdict], progress: Callable[[str, int, int], None]) -> int:
    """Fetch again what ``verify`` found damaged; see ``hub.verify.repair``."""
    return verify.repair(model, verdicts, progress=lambda file, done: progress(file.path, done, file.size_bytes))
