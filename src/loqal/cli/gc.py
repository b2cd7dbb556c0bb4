"""``loqal gc``: delete unfinished downloads and unreferenced files."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from loqal.cli import options, terminal
from loqal.cli.progress import amount
from loqal.hub import remove


def main(words: Sequence[str]) -> int:
    """Run the command and return its exit code. Raises LoqalError."""
    parser = options.Parser(
        "loqal gc", "Free disk space: delete unfinished downloads and unreferenced files.", "loqal gc [--dry-run]"
    )
    parser.add_argument("--dry-run", action="store_true", help="list the files without deleting them")
    parsed = parser.parse_args(list(words))
    found = list(remove.unreferenced())
    for file in found:
        terminal.print_line(f"{amount(file.size_bytes):>10}  {file.path}: {file.why}")
        if not parsed.dry_run:
            with contextlib.suppress(FileNotFoundError):
                file.path.unlink()
    verb = "would be" if parsed.dry_run else "were"
    terminal.print_line(f"{amount(sum(file.size_bytes for file in found))} {verb} freed")
    return 0
