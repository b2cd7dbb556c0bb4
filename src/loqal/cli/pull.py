"""``loqal pull``: download a model, verified, into the cache that all tools of the hub share."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from loqal.cli import options, terminal
from loqal.cli.progress import Progress, amount
from loqal.errors import CheckpointError, RequestError
from loqal.hub import find
from loqal.hub.catalog import FAMILY
from loqal.hub.fetch import Fetching
from loqal.performance import machine_speed
from loqal.performance.memory_report import needed_bytes

_USAGE = f"""loqal pull [options] NAME

  loqal pull {FAMILY}                   size and quantization chosen for this machine
  loqal pull {FAMILY}:4b                a size
  loqal pull {FAMILY}:4b-q8_0           a size and a quantization
  loqal pull owner/repo:Q4_K_M         one file of a repository on the hub

An interrupted download is resumed by the same command. HF_ENDPOINT, HF_TOKEN, HF_HUB_CACHE and HF_HUB_OFFLINE
apply."""


def main(words: Sequence[str]) -> int:
    """Run the command and return its exit code. Raises LoqalError."""
    parser = options.Parser("loqal pull", "Download a model.", _USAGE)
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--no-vision", action="store_true", help="do not download the separate vision tower")
    parser.add_argument("--connections", type=int, default=4, metavar="N", help="parallel connections (default: 4)")
    parser.add_argument("--dry-run", action="store_true", help="list the files without downloading them")
    parsed = parser.parse_args(list(words))
    if parsed.connections < 1:
        raise RequestError("--connections is below 1.", "A download needs at least one connection.", "Leave it out.")
    path = fetch(parsed.name, vision=not parsed.no_vision, connections=parsed.connections, dry_run=parsed.dry_run)
    if path is not None:
        terminal.print_line(str(path))
    return 0


def fetch(name: str, *, vision: bool = True, connections: int = 4, dry_run: bool = False) -> Path | None:
    """Fetch a model, say on stderr what is fetched and why, and return its path. Raises LoqalError."""
    if find.looks_like_path(name):
        raise CheckpointError(
            f"{name!r} is a path.", "Only names can be downloaded.", f"Write for example {FAMILY}:4b."
        )
    fetching = Fetching(name, _read_gb_per_s, needed_bytes, vision=vision, connections=connections)
    if fetching.why:
        terminal.print_note(fetching.why)
    for file in fetching.files:
        terminal.print_note(f"{file.repo} {file.path}  {amount(file.size_bytes)}")
    if fetching.licence:
        terminal.print_note(f"licence {fetching.licence}")
    if dry_run:
        return None
    with contextlib.ExitStack() as stack:
        lines: dict[str, Progress] = {}

        def show(path: str, done: int, total: int) -> None:
            if path not in lines:
                stack.close()  # the line of the file before
                lines[path] = stack.enter_context(Progress(path.rpartition("/")[2], total))
            lines[path].update(done)

        try:
            return fetching.run(show)
        except KeyboardInterrupt:
            stack.close()
            terminal.print_note("Stopped. What was downloaded is kept; the same command resumes.")
            raise


def _read_gb_per_s() -> float:
    return machine_speed.measured().read_gb_per_s
