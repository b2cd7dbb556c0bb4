"""What the documents name exists, and what they say of the code is so."""

from __future__ import annotations

import ast
import importlib
import re
import tomllib
from pathlib import Path

import pytest

from loqal.settings import SETTINGS

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
SHOWN = r"(?:tests|cpp|docs|tools|src|benchmarks|training)/[\w/.-]+"


def found_in_documents(pattern: str) -> list[str]:
    """What a pattern finds in any document, each once."""
    return sorted({match for path in DOCUMENTS for match in re.findall(pattern, path.read_text())})


# `loqal.toml` and the like are files.
NAMES = [
    name for name in found_in_documents(r"`(loqal\.[\w.]+)(?:\([^`]*\))?`") if not name.endswith((".toml", ".gguf"))
]
FILES = found_in_documents(rf"`({SHOWN})`")
LINKS = [
    (path, target)
    for path in DOCUMENTS
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text())
    if "://" not in target
]


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


@pytest.mark.parametrize(("document", "target"), LINKS, ids=[f"{path.name}-{target}" for path, target in LINKS])
def test_links_lead_somewhere(document: Path, target: str) -> None:
    assert (document.parent / target).exists()


def test_the_settings_that_change_answers_are_named() -> None:
    text = (ROOT / "docs/numerics.md").read_text()
    sentence = text.partition("settings of the machine that change answers are ")[2].partition(":")[0]
    assert re.findall(r"`(\w+)`", sentence) == [setting.name for setting in SETTINGS if setting.changes_output]


# The architecture -----------------------------------------------------------------------------------------------------

ARCHITECTURE = (ROOT / "docs/architecture.md").read_text()
EXTENSION = "loqal.ops._kernels"


def test_the_layers_are_those_that_are_enforced() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    enforced = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    chain = ARCHITECTURE.partition("```\n")[2].partition("```")[0]
    assert [_modules(layer) for layer in chain.split("->")] == [_modules(layer) for layer in enforced]


def _modules(layer: str) -> set[str]:
    """The modules of one layer, without the package's name, in the spelling of the page or of the contract."""
    return {name.removeprefix("loqal.") for name in re.findall(r"[\w.]+", layer)}


def test_the_modules_that_import_the_extension_are_named() -> None:
    sentence = re.search(r"Only ([^.]*(?:\.py[^.]*)+) import the extension\.", ARCHITECTURE)
    assert sentence is not None
    named = set(re.findall(r"`([\w/]+\.py)`", sentence[1]))
    package = ROOT / "src/loqal"
    paths = {path.relative_to(package): path.read_text() for path in package.rglob("*.py")}
    assert named == {path.as_posix() for path, text in paths.items() if EXTENSION in _imported(path, text)}


def _imported(path: Path, text: str) -> set[str]:
    """Full names of what a module of the package imports, and of what it imports from other modules."""
    package = ["loqal", *path.parent.parts]
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            found |= {origin, *(f"{origin}.{alias.name}" for alias in node.names)}
    return found


def test_no_way_of_adding_things_is_described_twice() -> None:
    things = re.findall(r"^- \*\*(.+?)\*\*:", ARCHITECTURE.partition("## Adding things")[2], re.MULTILINE)
    assert things
    for index, thing in enumerate(things):
        assert not any(other.startswith(thing) or thing.startswith(other) for other in things[index + 1 :]), thing
