"""Names of the parts of split files."""

from __future__ import annotations

from pathlib import Path

import pytest

from loqal.formats.split_files import Part, part_of, stem_of


def test_a_part_knows_its_place_and_the_others() -> None:
    part = part_of("a-b-00002-of-00003.gguf")
    assert part == Part("a-b", 2, 3, ".gguf")
    names = [path.name for path in part.all_parts(Path("folder/a-b-00002-of-00003.gguf"))]
    assert names == [f"a-b-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    assert stem_of("a-b-00002-of-00003.gguf") == "a-b"


@pytest.mark.parametrize("name", ["a.gguf", "-00001-of-00002.gguf", "a-0001-of-0002.gguf", "a-00001-of-00002.bin", "a"])
def test_other_names_are_no_parts(name: str) -> None:
    assert part_of(name) is None
    assert stem_of("a.b.gguf") == "a.b" and stem_of("a") == "a"
