"""What the documents name exists."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

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
