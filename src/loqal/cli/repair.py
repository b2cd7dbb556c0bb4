"""``loqal repair``: download the damaged parts of a model's files again."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from loqal.cli import local_model, options, terminal
from loqal.cli.progress import Progress
from loqal.hub import fetch


def main(words: Sequence[str]) -> int:
    """Run the command and return its exit code. Raises LoqalError."""
    parser = options.Parser("loqal repair", "Download the damaged parts of a model's files again.", "loqal repair NAME")
    parser.add_argument("name", metavar="NAME", help="a name from loqal list")
    parsed = parser.parse_args(list(words))
    model = local_model.named(parsed.name)
    verdicts = local_model.verified(model)
    with contextlib.ExitStack() as stack:
        lines: dict[str, Progress] = {}

        def show(path: str, done: int, total: int) -> None:
            if path not in lines:
                stack.close()
                lines[path] = stack.enter_context(Progress(path.rpartition("/")[2], total))
            lines[path].update(done)

        count = fetch.repair(model, verdicts, show)
    terminal.print_line(f"{count} files were repaired." if count else "Nothing is damaged.")
    return 0
