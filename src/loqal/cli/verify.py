"""``loqal verify``: check the files of a model against their digests."""

from __future__ import annotations

from collections.abc import Sequence

from loqal.cli import local_model, options, terminal
from loqal.cli.progress import amount
from loqal.hub import verify


def main(words: Sequence[str]) -> int:
    """Run the command and return its exit code: 3 when a file is damaged or missing. Raises LoqalError."""
    parser = options.Parser("loqal verify", "Check the files of a model against their digests.", "loqal verify NAME")
    parser.add_argument("name", metavar="NAME", help="a name from loqal list")
    parsed = parser.parse_args(list(words))
    model = local_model.named(parsed.name)
    verdicts = local_model.verified(model)
    for verdict in verdicts:
        terminal.print_line(_line(verdict))
    return 3 if any(verdict.state in ("damaged", "missing") for verdict in verdicts) else 0


def _line(verdict: verify.Verdict) -> str:
    damaged = f", {amount(verdict.damaged_bytes)} to download again" if verdict.damaged_bytes else ""
    return f"{verdict.state:8} {verdict.path}: {verdict.why}{damaged}"
