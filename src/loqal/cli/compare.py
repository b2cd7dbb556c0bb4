"""``loqal compare``: compare two quantizations of a model."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from loqal.cli import options, terminal
from loqal.cli.progress import Progress
from loqal.quantize import api as quantize_api
from loqal.quantize.api import Comparison


def main(words: Sequence[str]) -> int:
    """Run the command and return its exit code: 3 when a tensor differs by more than its format explains.

    Raises LoqalError.
    """
    parser = options.Parser(
        "loqal compare",
        "Compare two quantizations of a model.",
        "loqal compare [options] A B [--text FILE]\n\n"
        "A is the reference. Without --text the tensors are compared; with it, the predictions on that text, too.",
    )
    parser.add_argument("first", metavar="A")
    parser.add_argument("second", metavar="B")
    parser.add_argument("--text", metavar="FILE", action="append")
    parser.add_argument("--max-tokens", type=int, metavar="N", help="maximum tokens of the text (default: all)")
    parser.add_argument("--threads", type=int, metavar="N", help="default: the cores this process may use")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--verbose", action="store_true", help="list every tensor that differs")
    parsed = parser.parse_args(list(words))
    text = "\n\n".join(quantize_api.texts([Path(path) for path in parsed.text])) if parsed.text else None
    with Progress("reading", 1, "tokens") as line:
        found = quantize_api.compare(
            parsed.first,
            parsed.second,
            text,
            max_tokens=parsed.max_tokens,
            threads=parsed.threads,
            progress=line.update_of,
        )
    if parsed.json:
        terminal.print_line(json.dumps(dataclasses.asdict(found), ensure_ascii=False))
    else:
        _print_comparison(found, verbose=parsed.verbose)
    return 3 if found.suspicious else 0


def _print_comparison(found: Comparison, *, verbose: bool) -> None:
    if not found.differences:
        terminal.print_line("All tensors are equal.")
    else:
        first = found.differences[0]
        formats = " and ".join(dict.fromkeys(first.formats))
        terminal.print_line(
            f"{len(found.differences)} tensors differ; the first is {first.name} ({formats}), by {first.difference:.3g}"
        )
    shown = found.differences if verbose else found.suspicious
    for entry in shown:
        note = ", more than the format explains" if entry.is_suspicious else ""
        terminal.print_line(f"  {entry.name} ({' and '.join(entry.formats)}): {entry.difference:.4f}{note}")
    if found.divergence is not None:
        d = found.divergence
        terminal.print_line(
            f"divergence over {d.num_tokens:,} tokens: mean {d.mean:.5f}, median {d.median:.5f}, "
            f"99 % below {d.percentile_99:.4f}, largest {d.largest:.3f} nats\n"
            f"same most likely token after {d.same_top:.2%}; perplexity {d.perplexity[0]:.4f} and {d.perplexity[1]:.4f}"
        )
