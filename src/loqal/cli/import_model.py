"""``loqal import``: register a local model under a name, by a link."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from loqal.cli import options, terminal
from loqal.cli.progress import amount
from loqal.hub import local_models


def main(words: Sequence[str]) -> int:
    """Run the command and return its exit code. Raises LoqalError."""
    parser = options.Parser(
        "loqal import",
        "Register a local model under a name. Nothing is copied.",
        "loqal import PATH [--name NAME]\n\nModels of Ollama, LM Studio, llama.cpp and the hub are found "
        "without import: see loqal list.",
    )
    parser.add_argument("path", metavar="PATH", help="a GGUF file, or a folder of one model")
    parser.add_argument("--name", metavar="NAME", help="the name (default: that of the file)")
    parsed = parser.parse_args(list(words))
    model = local_models.import_model(Path(parsed.path), parsed.name)
    terminal.print_line(f"{model.name}  {amount(model.size_bytes)}, linked")
    return 0
