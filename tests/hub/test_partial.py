"""A file that is being fetched: which bytes count as there, whatever happened to the process or the disk."""

from __future__ import annotations

import hashlib
import json
import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loqal.hub import partial as partial_module
from loqal.hub.partial import Partial, adopt_damaged

PART = 100
DATA = random.Random(0).randbytes(350)
ETAG = hashlib.sha256(DATA).hexdigest()


def opened(folder: Path, data: bytes = DATA, part_bytes: int = PART, etag: str = ETAG) -> Partial:
    return Partial(folder / "file", len(data), etag, part_bytes)


def write_all(partial: Partial, data: bytes = DATA) -> None:
    for part in partial.missing():
        writer = partial.writer(part)
        writer.write(data[writer.position :])


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 350), st.integers(1, 400), st.lists(st.tuples(st.integers(0, 9), st.integers(0, 120), st.booleans()))
)
def test_parts_in_any_order_and_pieces(
    tmp_path_factory: pytest.TempPathFactory, size: int, part_bytes: int, steps: list[tuple[int, int, bool]]
) -> None:
    folder, data = tmp_path_factory.mktemp("partial"), DATA[:size]
    partial = opened(folder, data, part_bytes)
    written = [0] * partial.num_parts
    assert partial.num_parts == len(range(0, size, part_bytes))
    for choice, count, reopen in steps:
        if reopen:  # every byte that was counted is still there
            partial.close()
            partial = opened(folder, data, part_bytes)
        if not partial.num_parts:
            continue
        part = choice % partial.num_parts
        start, end = partial.span(part)
        writer = partial.writer(part)
        assert writer.position == start + written[part]
        given_bytes = data[writer.position : writer.position + count]
        taken = writer.write(given_bytes)
        assert taken == min(len(given_bytes), end - start - written[part])  # what is beyond belongs to the next part
        written[part] += taken
        assert writer.is_done() == (written[part] == end - start)
        assert partial.read(start, written[part]) == data[start : start + written[part]]
        whole = [one for one in range(partial.num_parts) if written[one] == len(data[slice(*partial.span(one))])]
        assert partial.missing() == [one for one in range(partial.num_parts) if one not in whole]
        assert partial.total_done() == sum(written)
        first = next(iter(partial.missing()), None)
        assert partial.frontier() == (size if first is None else partial.span(first)[0] + written[first])
    write_all(partial, data)
    assert partial.missing() == [] and partial.frontier() == size
    assert partial.digests() == [
        hashlib.sha256(data[slice(*partial.span(part))]).digest() for part in range(partial.num_parts)
    ]
    partial.finish()
    assert (folder / "file").read_bytes() == data and files(folder) == {"file"}


def test_the_frontier_from_a_part_on(tmp_path: Path) -> None:
    partial = opened(tmp_path)
    partial.writer(1).write(DATA[100:200])
    partial.writer(2).write(DATA[200:250])
    assert partial.frontier() == 0 and partial.frontier(1) == 250 and partial.frontier(3) == 300


@pytest.mark.parametrize(("size", "etag"), [(len(DATA) + 1, ETAG), (len(DATA), "another"), (len(DATA) - 1, "another")])
def test_another_file_begins_anew(tmp_path: Path, size: int, etag: str) -> None:
    first = opened(tmp_path)
    write_all(first)
    first.close()
    second = Partial(tmp_path / "file", size, etag, PART)
    assert second.total_done() == 0 and second.missing() == list(range(second.num_parts))


def test_the_parts_it_was_begun_with_stay(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first.writer(2).write(DATA[200:300])
    first.close()
    again = opened(tmp_path, part_bytes=64)
    assert again.part_bytes == PART and again.is_done(2)


def garbage(journal: Path) -> None:
    journal.write_bytes(random.Random(1).randbytes(journal.stat().st_size))


def shortened(journal: Path) -> None:
    os.truncate(journal, journal.stat().st_size - 1)


def without_parts(journal: Path) -> None:
    header = {"size": len(DATA), "etag": ETAG, "part_bytes": 0, "boot": ""}
    journal.write_bytes(json.dumps(header).encode().ljust(1024))


@pytest.mark.parametrize("damage", [garbage, shortened, without_parts, Path.unlink])
def test_a_broken_journal_counts_for_nothing(tmp_path: Path, damage: object) -> None:
    first = opened(tmp_path)
    write_all(first)
    first.close()
    damage(first.journal_path)  # type: ignore[operator]
    assert opened(tmp_path).total_done() == 0


def test_a_journal_without_data_counts_for_nothing(tmp_path: Path) -> None:
    first = opened(tmp_path)
    write_all(first)
    first.close()
    first.data_path.unlink()
    again = opened(tmp_path)
    assert again.total_done() == 0 and again.data_path.stat().st_size == len(DATA)


def test_after_a_power_cut_only_digests_are_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    boot = tmp_path / "boot"
    boot.write_text("one")
    monkeypatch.setattr(partial_module, "_BOOT_ID", boot)
    partial = opened(tmp_path)
    for part in (0, 1):
        partial.writer(part).write(DATA[part * PART :])
    partial.writer(2).write(DATA[200:260])  # counted, but not whole
    partial.close()
    with partial.data_path.open("r+b") as file:  # a page that was never written
        file.seek(PART + 50)
        file.write(bytes(50))
    assert opened(tmp_path).total_done() == 260
    boot.write_text("two")
    again = opened(tmp_path)
    assert again.missing() == [1, 2, 3] and again.total_done() == PART
    again.writer(2).write(DATA[200:260])
    again.close()
    assert opened(tmp_path).total_done() == PART + 60  # the new boot is noted


def test_damage_at_rest_is_confined_to_its_part(tmp_path: Path) -> None:
    partial = opened(tmp_path)
    write_all(partial)
    assert partial.reset_damaged() == []
    with partial.data_path.open("r+b") as file:
        file.seek(250)
        file.write(bytes([DATA[250] ^ 1]))
    assert partial.reset_damaged() == [2]
    assert partial.missing() == [2] and partial.done_bytes(2) == 0
    write_all(partial)
    partial.finish()
    assert (tmp_path / "file").read_bytes() == DATA


@pytest.mark.parametrize("knows_digests", [True, False])
def test_a_finished_file_that_is_damaged_lacks_only_what_is_wrong(tmp_path: Path, knows_digests: bool) -> None:
    target = tmp_path / "file"
    target.write_bytes(DATA[:150] + b"X" + DATA[151:] + b"more")
    digests = [hashlib.sha256(DATA[at : at + PART]).digest() for at in range(0, len(DATA), PART)]
    partial = adopt_damaged(target, len(DATA), ETAG, PART, digests if knows_digests else [])
    assert not target.exists()
    assert partial.missing() == ([1] if knows_digests else [])
    assert partial.data_path.stat().st_size == len(DATA)
    write_all(partial)
    partial.finish()
    assert (target.read_bytes() == DATA) == knows_digests


def test_discarding_leaves_nothing(tmp_path: Path) -> None:
    partial = opened(tmp_path)
    partial.writer(0).write(DATA)
    partial.discard()
    partial.close()
    assert files(tmp_path) == set()
