"""What the documents name exists, and what they say of the code is so."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from loqal.settings import KNOBS

ROOT = Path(__file__).parents[2]
NAMES = sorted(set(re.findall(r"`(loqal\.[\w.]+)`", (ROOT / "docs/architecture.md").read_text())))
FILES = sorted(
    {
        path
        for document in ("docs/architecture.md", "docs/numerics.md")
        for path in re.findall(r"`((?:tests|cpp|docs)/[\w/.-]+)`", (ROOT / document).read_text())
        if "<" not in path
    }
)


@pytest.mark.parametrize("name", NAMES)
def test_named_functions_exist(name: str) -> None:
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            found = getattr(found, part)
        return
    pytest.fail(f"{name} does not exist")


@pytest.mark.parametrize("path", FILES)
def test_named_files_exist(path: str) -> None:
    assert (ROOT / path).exists()


def test_the_settings_that_change_answers_are_named() -> None:
    text = (ROOT / "docs/numerics.md").read_text()
    sentence = text.partition("settings of the machine that change answers are ")[2].partition(":")[0]
    assert re.findall(r"`(\w+)`", sentence) == [knob.name for knob in KNOBS if knob.changes_output]
