"""``loqal imatrix``: compute an importance matrix for ``loqal quantize``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from loqal.cli import options, terminal
from loqal.cli.progress import Progress
from loqal.quantize import api as quantize_api


def main(words: Sequence[str]) -> int:
    """Run the command and return its exit code. Raises LoqalError."""
    parser = options.Parser(
        "loqal imatrix",
        "Compute an importance matrix for loqal quantize, from texts and images.",
        "loqal imatrix [options] MODEL --text FILE [--text FILE ...] [--image FILE ...] [--out FILE]\n\n"
        "The texts should resemble those of later use: conversations as the chat template writes them (control tokens\n"
        "are read as such), tools, several languages. Each image precedes a piece of text. A draft head is measured,\n"
        "too. The tools of llama.cpp read the file as well.",
    )
    parser.add_argument("model", metavar="MODEL", help="the unquantized model, if it fits")
    parser.add_argument("--text", metavar="FILE", action="append", default=[])
    parser.add_argument("--image", metavar="FILE", action="append", default=[])
    parser.add_argument(
        "--mmproj", metavar="FILE", help="the separate vision tower of a GGUF model, if it is not beside it"
    )
    parser.add_argument("--out", metavar="FILE", help="default: the model's name with -imatrix.gguf")
    parser.add_argument("--max-tokens", type=int, metavar="N", help="maximum tokens of the text")
    parser.add_argument("--threads", type=int, metavar="N", help="default: the cores this process may use")
    parsed = parser.parse_args(list(words))
    text = "\n\n".join(quantize_api.texts([Path(path) for path in parsed.text]))
    mmproj = None if parsed.mmproj is None else Path(parsed.mmproj)
    target = Path(parsed.out or f"{Path(parsed.model.rpartition(':')[2]).stem}-imatrix.gguf")
    with Progress("reading", 1, "tokens") as line:
        quantize_api.measure_importance(
            parsed.model,
            text,
            target,
            images=[Path(path) for path in parsed.image],
            mmproj=mmproj,
            max_tokens=parsed.max_tokens,
            threads=parsed.threads,
            progress=line.update_of,
        )
    terminal.print_line(str(target))
    return 0
