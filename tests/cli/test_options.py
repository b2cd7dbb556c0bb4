"""What the command line and its caller may say: flags, settings, ranges, model names, messages."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from loqal import settings
from loqal.cli import options
from loqal.errors import CheckpointError, RequestError
from loqal.hub import find
from loqal.runtime import open_model
from loqal.runtime.message_dicts import to_messages
from loqal.types.messages import MediaPart, Message, TextPart, ToolCall
from loqal.types.sampling import SamplingParams


def parse(*words: str) -> SamplingParams:
    parser = options.Parser("loqal", "", "")
    options.add_sampling_flags(parser)
    return options.sampling_params(parser.parse_args(words))


def parse_settings(*words: str) -> dict[str, Any]:
    parser = options.Parser("loqal", "", "")
    options.add_setting_flags(parser)
    return options.setting_values(parser.parse_args(words))


# Flags ----------------------------------------------------------------------------------------------------------------


def test_no_flags_are_the_defaults() -> None:
    assert parse() == SamplingParams()
    assert set(parse_settings().values()) == {None}


def test_every_parameter_has_a_flag_and_a_help_text() -> None:
    parser = options.Parser("loqal", "", "")
    options.add_sampling_flags(parser)
    options.add_setting_flags(parser)
    help_text = parser.format_help()
    for entry in fields(SamplingParams):
        assert f"--{entry.name.replace('_', '-')}" in help_text
        assert entry.metadata["help"].split()[0] in help_text
    for setting in settings.SETTINGS:
        assert setting.flag in help_text
        assert setting.env in help_text


def test_flags_fill_the_parameters() -> None:
    words = "--max-tokens 5 --temperature 0.5 --stop a --stop b --stop-token-ids 3 --penalize-prompt --seed -1"
    assert parse(*words.split()) == SamplingParams(
        max_tokens=5, temperature=0.5, stop=("a", "b"), stop_token_ids=(3,), penalize_prompt=True, seed=-1
    )
    found = parse_settings("--threads", "2", "--isa", "avx2")
    assert found == {setting.name: None for setting in settings.SETTINGS} | {"threads": 2, "isa": "avx2"}


@pytest.mark.parametrize(
    "words",
    ["--max-tokens x", "--max-tokens 0", "--top-p 0", "--top-p nan", "--temperature -1", "--logprobs 65", "--nonsense"],
)
def test_flags_that_are_wrong(words: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse(*words.split())
    assert caught.value.fix


def test_token_ids() -> None:
    assert options.token_ids("1, 2,3") == [1, 2, 3]
    with pytest.raises(RequestError):
        options.token_ids("1,a")


# Settings -------------------------------------------------------------------------------------------------------------


def test_settings_take_the_call_before_the_environment_before_the_default() -> None:
    environment = {"LOQAL_THREADS": "3", "LOQAL_ISA": "", "OTHER": "x"}
    assert settings.resolve({}, {}) == settings.Settings()
    assert settings.resolve({}, environment).threads == 3
    assert settings.resolve({"threads": 5, "isa": None}, environment).threads == 5
    assert settings.resolve({}, environment).isa is None


@pytest.mark.parametrize(
    ("given", "environment", "complaint"),
    [
        ({"threads": 0}, {}, "threads is 0"),
        ({"threads": 1.5}, {}, "at least 1"),
        ({"threads": True}, {}, "at least 1"),
        ({"backend": "gpu"}, {}, "one of cpu, reference"),
        ({}, {"LOQAL_THREADS": "many"}, "LOQAL_THREADS"),
        ({}, {"LOQAL_CONTEXT_LEN": "0"}, "LOQAL_CONTEXT_LEN"),
    ],
)
def test_settings_that_are_wrong(given: dict[str, Any], environment: dict[str, str], complaint: str) -> None:
    with pytest.raises(RequestError, match=complaint):
        settings.resolve(given, environment)


# Models ---------------------------------------------------------------------------------------------------------------


def test_what_names_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    for word in ("demo", "folder", "./x", "/x/y", "~/x", "a b.gguf", "x.safetensors"):
        assert find.is_model(word), word
    for word in ("hello", "what is 3/4?", "/think about it", "a\nb.gguf", "x" * 5000, "bad\0name"):
        assert not find.is_model(word), word


def test_locate(tmp_path: Path) -> None:
    assert open_model.locate(str(tmp_path)) == tmp_path
    for model in ("hello", "hello.gguf", tmp_path / "none", "x" * 5000):
        with pytest.raises(CheckpointError) as caught:
            open_model.locate(model)
        assert caught.value.fix


# Messages -------------------------------------------------------------------------------------------------------------


def test_messages_from_dicts() -> None:
    given: list[Message | dict[str, Any]] = [
        Message("system", "s"),
        {"role": "user", "content": ["a", {"type": "text", "text": "b"}, {"type": "image", "source": "c.png"}]},
        {
            "role": "assistant",
            "content": None,
            "reasoning": "r",
            "tool_calls": [{"name": "f", "arguments": '{"x": 1}', "id": "1"}, {"name": "g", "arguments": {}}],
        },
        {"role": "tool", "content": "t"},
    ]
    assert to_messages(given) == [
        Message("system", "s"),
        Message("user", (TextPart("a"), TextPart("b"), MediaPart("image", "c.png"))),
        Message("assistant", "", "r", (ToolCall("f", {"x": 1}, "1"), ToolCall("g", {}))),
        Message("tool", "t"),
    ]


@pytest.mark.parametrize(
    ("messages", "path"),
    [
        ("hello", "messages"),
        ({"role": "user"}, "messages"),
        (["hello"], r"messages\[0\]"),
        ([{"content": "x"}], r"messages\[0\]\.role is missing"),
        ([{"role": "robot", "content": "x"}], r"messages\[0\]\.role"),
        ([{"role": "user", "content": "x", "nmae": "y"}], r"messages\[0\]\.nmae"),
        ([{"role": "user", "content": 3}], r"messages\[0\]\.content"),
        ([{"role": "user", "content": {"text": "x"}}], r"messages\[0\]\.content"),
        ([{"role": "user", "content": ["x", {"type": "sound"}]}], r"messages\[0\]\.content\[1\]"),
        ([{"role": "user", "content": [{"type": "text", "text": 1}]}], r"content\[0\]\.text"),
        ([{"role": "user", "content": [{"type": "image", "source": "x", "detail": "low"}]}], r"content\[0\]\.detail"),
        ([{"role": "assistant", "reasoning": 1}], r"messages\[0\]\.reasoning"),
        ([{"role": "assistant", "tool_calls": {}}, {"role": "assistant", "tool_calls": "x"}], r"messages\[1\]"),
        ([{"role": "assistant", "tool_calls": [{"name": "f"}]}], r"tool_calls\[0\]\.arguments is missing"),
        ([{"role": "assistant", "tool_calls": [{"name": "f", "arguments": "{"}]}], r"tool_calls\[0\]\.arguments"),
        ([{"role": "assistant", "tool_calls": [{"name": "f", "arguments": "[]"}]}], r"tool_calls\[0\]\.arguments"),
        ([{"role": "assistant", "tool_calls": [{"name": 1, "arguments": {}}]}], r"tool_calls\[0\]\.name"),
    ],
)
def test_messages_that_are_wrong(messages: Any, path: str) -> None:
    with pytest.raises(RequestError, match=path):
        to_messages(messages)
