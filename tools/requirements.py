"""Prints what pyproject.toml requires, for pip: python tools/requirements.py run test check build."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path


def main(kinds: list[str]) -> None:
    """Print the requirements of the given kinds, one a line without spaces."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    found = {
        "run": project["project"]["dependencies"],
        "build": project["build-system"]["requires"],
        **project["project"]["optional-dependencies"],
    }
    for kind in kinds:
        print(*(requirement.replace(" ", "") for requirement in found[kind]), sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
