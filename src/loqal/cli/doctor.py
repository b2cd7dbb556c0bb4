"""``loqal doctor``: the machine, the installation and every setting, ready for a bug report."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

from loqal.cli import options, terminal
from loqal.cli.diagnosis import diagnose


def main(words: Sequence[str]) -> int:
    """Run the command and return its exit code. Raises RequestError."""
    parser = options.Parser(
        "loqal doctor", "Describe this machine and installation, for a bug report.", "loqal doctor [--json]"
    )
    parser.add_argument("--no-measure", action="store_true", help="skip the measurements of this machine")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parsed = parser.parse_args(list(words))
    found = diagnose(measure=not parsed.no_measure)
    if parsed.json:
        terminal.print_line(json.dumps(dataclasses.asdict(found), ensure_ascii=False))
        return 0
    section = ""
    for finding in found.findings:
        if finding.section != section:
            section = finding.section
            terminal.print_line(("\n" if finding is not found.findings[0] else "") + section)
        terminal.print_line(f"  {finding.name:20} {finding.value}")
    terminal.print_line("\nadvice")
    for text in found.advice or ("No performance problems found.",):
        terminal.print_line(f"  {text}")
    return 0
