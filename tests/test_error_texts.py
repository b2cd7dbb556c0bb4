"""Errors are sentences: what happened and why begin with a capital and end with a full stop."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from loqal import errors

PACKAGE = Path(__file__).parents[1] / "src/loqal"
FOLDERS = ("weights", "formats", "hub", "quantize", "media", "evaluation", "performance", "cli")
KINDS = {name for name in vars(errors) if name.endswith("Error")} | {
    "BrokenHeaderError",
    "UnreadableHeaderError",
    "BrokenError",
}
# Names that keep their lower case at the beginning of a sentence.
NAMES = ("loqal", "mmproj", "tokenizer.json", "general.", "fps", "max_frames")


def texts(path: Path) -> Iterator[tuple[int, int, str]]:
    """Line, place among the arguments, and text of every error; values stand as braces."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "").lstrip("_") in KINDS:
            for place, argument in enumerate(node.args[:3]):
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield node.lineno, place, argument.value
                elif isinstance(argument, ast.JoinedStr):
                    parts = (part.value if isinstance(part, ast.Constant) else "{}" for part in argument.values)
                    yield node.lineno, place, "".join(map(str, parts))


@pytest.mark.parametrize("folder", FOLDERS)
def test_errors_are_sentences(folder: str) -> None:
    for path in sorted((PACKAGE / folder).rglob("*.py")):
        for line, place, text in texts(path):
            assert not text[:1].islower() or text.startswith(NAMES), f"{path.name}:{line}: {text!r}"
            # What to do next may end with a command, which a full stop would spoil.
            is_command = place == 2 and ": loqal " in text
            assert text.endswith((".", "!", "?", ". {}")) or is_command, f"{path.name}:{line}: {text!r}"


@pytest.mark.parametrize("folder", FOLDERS)
def test_errors_say_what_why_and_what_to_do_next(folder: str) -> None:
    for path in sorted((PACKAGE / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in vars(errors):
                given = len(node.args) + len(node.keywords)
                assert given == 3 or any(isinstance(argument, ast.Starred) for argument in node.args), (
                    f"{path.name}:{node.lineno} has {given} parts"
                )
