"""``loqal rm``: delete a model."""

from __future__ import annotations

from collections.abc import Sequence

from loqal.cli import local_model, options, terminal
from loqal.hub import remove


def main(words: Sequence[str]) -> int:
    """Run the command and return its exit code. Raises LoqalError."""
    parser = options.Parser(
        "loqal rm", "Delete a model. Of an imported model only the links are deleted.", "loqal rm [--foreign] NAME"
    )
    parser.add_argument("name", metavar="NAME", help="a name from loqal list")
    parser.add_argument("--foreign", action="store_true", help="delete files of another tool, too")
    parsed = parser.parse_args(list(words))
    model = local_model.named(parsed.name)
    for path in remove.remove(model, foreign=parsed.foreign):
        terminal.print_line(f"deleted {path}")
    return 0
