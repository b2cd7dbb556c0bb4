"""Names of the parts of a split file: ``model-00001-of-00003.gguf``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import TypeVar

_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.gguf|\.safetensors)")
_Path = TypeVar("_Path", bound=PurePath)


@dataclass(frozen=True, slots=True)
class Part:
    """What the name of a part says. ``number`` counts from 1."""

    stem: str
    number: int
    count: int
    suffix: str

    def all_parts(self, path: _Path) -> list[_Path]:
        """The paths of all parts, beside the path of one of them."""
        numbers = range(1, self.count + 1)
        return [path.with_name(f"{self.stem}-{number:05d}-of-{self.count:05d}{self.suffix}") for number in numbers]


def part_of(name: str) -> Part | None:
    """The part a file is by its name; None for a file that is no part."""
    match = _PART.fullmatch(name)
    return Part(match["stem"], int(match["number"]), int(match["count"]), match["suffix"]) if match else None


def stem_of(name: str) -> str:
    """The name without its suffix, and without the number where it is a part."""
    part = part_of(name)
    return part.stem if part else name.rpartition(".")[0] or name
