"""Which settings of the machine change answers: those that say so, and no others."""

from __future__ import annotations

import os
import sys
from dataclasses import fields
from os import PathLike
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

import loqal
from loqal import SamplingParams
from loqal.engine.memory_plan import default_context_len
from loqal.errors import RequestError
from loqal.ops.backends.cpu import available_isas
from loqal.runtime.open_model import find
from loqal.settings import SETTINGS, Settings, SettingsDict, resolve
from loqal.weights.load import open_checkpoint

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))
import settings_page  # noqa: E402

ASSETS = find().path.parent
CONTEXT_LEN = 1024
TEXTS = ["What is 34 + 17?", "harbour: 17\ntiger: 42\nlemon: 5\nengine: 88\nWhat is tiger?", "Who are you?"]
DRAWN = SamplingParams(max_tokens=16, seed=5, temperature=2.0, logprobs=2, ignore_eos=True)
GREEDY = SamplingParams(max_tokens=16, temperature=0.0, logprobs=2, ignore_eos=True)

FEWER_THREADS = 1 if len(os.sched_getaffinity(0)) > 1 else 2

OTHER: dict[str, dict[str, Any]] = {
    "context_len": {"context_len": 96},
    "threads": {"threads": FEWER_THREADS},
    "isa": {"isa": available_isas()[-1]},
    "kv_bits": {"kv_bits": 8},
    "max_sequences": {"max_sequences": 1},
    "cache_bytes": {"cache_bytes": 0},
    "cache_dir": {"cache_dir": "states"},
    "cache_dir_bytes": {"cache_dir": "states", "cache_dir_bytes": 100_000},
    "memory_bytes": {"memory_bytes": 4 << 30},
    "yarn": {"yarn": 2},
    "drafts": {"drafts": "off"},
    "media_cache_bytes": {"media_cache_bytes": 0},
    "packed_file": {"packed_file": "packed"},
    "backend": {"backend": "reference"},
}
"""A value of each setting that is not the default, with what it needs to have an effect."""


def _question(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def _answers(given: dict[str, Any]) -> list[Any]:
    """Token ids and log probabilities of some replies: alone and again, several at once, and about a picture."""
    picture = {"type": "image", "source": (ASSETS / "chart.png").read_bytes()}
    about = [{"role": "user", "content": [picture, {"type": "text", "text": "Which bar is the largest?"}]}]
    with loqal.load(**{"context_len": CONTEXT_LEN, **given}) as model:
        replies = [model.chat(_question(text), params) for text in TEXTS for params in (GREEDY, DRAWN)]
        replies += model.batch([*map(_question, TEXTS), _question("Who are you?\n" * 20)], DRAWN)
        replies += [model.chat(about, GREEDY, think=False) for _ in range(2)]
    return [(reply.token_ids, reply.logprobs) for reply in replies]


@pytest.fixture(scope="module")
def usual() -> list[Any]:
    return _answers({})


def test_the_arguments_of_load_are_the_settings() -> None:
    assert list(SettingsDict.__annotations__) == [entry.name for entry in fields(Settings)]
    for entry, given in zip(fields(Settings), get_type_hints(SettingsDict).values(), strict=True):
        kinds = set(get_args(given)) - {type(None), PathLike[str]}
        assert kinds == {entry.metadata["kind"]}, entry.name


@pytest.mark.parametrize("call", [loqal.load, loqal.plan])
def test_a_setting_that_does_not_exist_is_rejected(call: Any) -> None:
    with pytest.raises(RequestError, match="context_length") as caught:
        call(context_length=96)
    assert "context_len," in caught.value.why


def test_settings_take_paths() -> None:
    assert resolve({"cache_dir": Path("states")}, {}).cache_dir == "states"


def test_the_page_of_settings_is_generated() -> None:
    assert (ROOT / "docs/settings.md").read_text() == settings_page.render()


def test_every_setting_has_another_value() -> None:
    assert OTHER.keys() == {setting.name for setting in SETTINGS}
    for name, given in OTHER.items():
        assert given[name] != getattr(Settings(), name)


@pytest.mark.parametrize("name", [setting.name for setting in SETTINGS if not setting.changes_output])
def test_a_setting_changes_no_bit(name: str, usual: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(
        2 if {"cache_dir", "packed_file"} & OTHER[name].keys() else 1
    ):  # the second reads what the first kept
        assert _answers(OTHER[name]) == usual


@pytest.mark.parametrize(
    "name",
    [
        setting.name
        for setting in SETTINGS
        if setting.changes_output and setting.name not in ("context_len", "memory_bytes")
    ],
)
@pytest.mark.slow
def test_a_setting_changes_answers(name: str, usual: list[Any]) -> None:
    assert _answers(OTHER[name]) != usual


def test_the_context_decides_where_a_reply_ends() -> None:
    lengths = []
    for given in ({"context_len": CONTEXT_LEN}, OTHER["context_len"]):
        with loqal.load(**given) as model:
            reply = model.chat(_question(TEXTS[0]), SamplingParams(max_tokens=120, temperature=0.0, ignore_eos=True))
            lengths.append(len(reply.token_ids))
    assert lengths[0] == 120 > lengths[1]


def test_the_memory_decides_the_context_where_it_is_not_given_and_nothing_else(usual: list[Any]) -> None:
    assert _answers(OTHER["memory_bytes"]) == usual
    checkpoint = open_checkpoint(find().path)
    try:
        lengths = {default_context_len(checkpoint.config, memory_bytes) for memory_bytes in (1 << 20, 1 << 30)}
    finally:
        checkpoint.close()
    assert len(lengths) == 2
