"""Public words: help texts, errors and names use the field's terms, in plain sentences."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src/loqal"

# Texts that the model reads: their bytes are part of an answer.
READ_BY_THE_MODEL = {"chat/template/native.py", "chat/template/tools.py", "chat/constraints/reasoning_budget.py"}

WORDS = re.compile(
    r"\b(anew|whatever|is no|are no|lies|behind|nobody|somebody|likeliest|knobs?|quantis\w*|tokenis\w*|guess\w*)\b"
    r"(?! longer)",
    re.IGNORECASE,
)
PHRASES = (
    "at the wall",
    "stretch the positions",
    "states of earlier requests",
    "most tokens of prompt",
    "most memory for",
    "most memory of",
    "most replies",
    "most requests",
    "most bytes of",
    "what computes",
    "slow specification",
    "refused for now",
    "how long replies may go on",
    "a key that callers must give",
    "must be a text",
    "texts with commas",
    "switches it off",
    "give back",
    "given back",
    "nothing needs",
    "stays unused",
    "stands in the way",
    "may be taken back",
    "one of its own kind",
    "come later",
    "origin that may call",
    "processors of the mask",
    "for want of",
    "is well",
)
NAMES = {
    *("House", "Room", "Gate", "Guard", "Ask", "Work", "Call", "Replies", "Kept", "KeptStreams", "Notes", "Roster"),
    *("Active", "Reading", "Eyes", "Seen", "View", "Wish", "Words", "Trust", "Guide", "Allowed", "TurnGuide"),
    *(
        "TurnRules",
        "Governor",
        "Knob",
        "Glance",
        "Network",
        "Portion",
        "Best",
        "Turns",
        "SavedStates",
        "TokenTree",
        "Waste",
    ),
    *("hoped", "settle", "defers", "spoils", "give_way", "put_aside", "likely", "nudge", "prepare_forms", "largest"),
    *("take_rows", "put_weight", "knob", "peek", "guess", "honoured", "noted", "fate", "quantise", "as_turn"),
}


def modules() -> list[str]:
    return sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py"))


def texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Strings of more than one word that are no docstrings, with their lines."""
    docstrings = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            docstrings |= {id(one.value) for one in body if isinstance(one, ast.Expr)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or id(node) in docstrings:
            continue
        if " " in node.value.strip() or node.value.endswith((" ", ".")):
            yield node.lineno, node.value


@pytest.mark.parametrize("module", [name for name in modules() if name not in READ_BY_THE_MODEL])
def test_texts_use_the_fields_words(module: str) -> None:
    found = [
        f"{line}: {match[0] if isinstance(match, re.Match) else match!r} in {text[:90]!r}"
        for line, text in texts(ast.parse((PACKAGE / module).read_text()))
        for match in [*WORDS.finditer(text), *(phrase for phrase in PHRASES if phrase in text.lower())]
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("module", modules())
def test_names_use_the_fields_words(module: str) -> None:
    tree = ast.parse((PACKAGE / module).read_text())
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    assert not {node.name.lstrip("_") for node in ast.walk(tree) if isinstance(node, kinds)} & NAMES
