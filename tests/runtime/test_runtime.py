"""The Python API on a tiny model, in both file formats."""

from __future__ import annotations

import dataclasses
import gc
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import loqal
import tiny_checkpoint
from loqal import FinishReason, Message, ReplyDelta, Runtime, SamplingParams

QUESTION = [{"role": "user", "content": "Hello!"}]
SHORT = SamplingParams(max_tokens=24, seed=11)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint.gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", tied_head=False)


@pytest.fixture(scope="module")
def model(path: Path) -> Iterator[Runtime]:
    with loqal.load(path, backend="reference", context_len=512) as model:
        yield model


def test_a_reply_is_complete(model: Runtime) -> None:
    reply = model.chat(QUESTION, SHORT, think=False)
    assert len(reply.token_ids) == reply.usage.completion_tokens
    prompt = "<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    assert reply.usage.prompt_tokens == len(model.tokenize(prompt, control=True))
    assert reply.finish_reason in (FinishReason.LENGTH, FinishReason.STOP)
    assert reply.seed == 11
    assert reply.logprobs is None
    assert reply.timings.load_ms > 0
    assert reply.timings.first_token_ms > 0


def test_a_request_has_one_answer(model: Runtime) -> None:
    first, again = (model.chat(QUESTION, SHORT) for _ in range(2))
    assert (first.token_ids, first.text, first.reasoning) == (again.token_ids, again.text, again.reasoning)
    drawn = model.chat(QUESTION, SamplingParams(max_tokens=24))
    repeated = model.chat(QUESTION, SamplingParams(max_tokens=24, seed=drawn.seed))
    assert repeated.token_ids == drawn.token_ids


def test_both_formats_answer_alike(model: Runtime, tmp_path: Path) -> None:
    folder = tiny_checkpoint.safetensors(tmp_path / "tiny", tied_head=False)
    # The GGUF file is F32, which the keys and values follow; the safetensors are BF16 with the same values.
    with loqal.load(folder, backend="reference", context_len=512, kv_bits=32) as other:
        assert other.chat(QUESTION, SHORT).token_ids == model.chat(QUESTION, SHORT).token_ids
        ids = model.tokenize("some text")
        assert other.logits(ids).tobytes() == model.logits(ids).tobytes()


def test_a_stream_adds_up_to_the_reply(model: Runtime) -> None:
    params = SamplingParams(max_tokens=60, seed=4)
    whole = model.chat(QUESTION, params)
    with model.stream_chat(QUESTION, params) as stream:
        deltas = list(stream)
    assert stream.reply.token_ids == whole.token_ids
    assert "".join(delta.text for delta in deltas) == whole.text
    assert "".join(delta.reasoning for delta in deltas) == whole.reasoning
    assert tuple(token_id for delta in deltas for token_id in delta.token_ids) == whole.token_ids
    assert all(kinds(delta) <= 1 for delta in deltas)


def kinds(delta: ReplyDelta) -> int:
    return bool(delta.text) + bool(delta.reasoning) + (delta.tool_call is not None)


def test_thinking_goes_where_it_belongs(model: Runtime) -> None:
    assert model.info.thinks_by_default
    params = SamplingParams(max_tokens=10, seed=2)
    thinking, answering = (model.chat(QUESTION, params, think=think) for think in (True, False))
    assert thinking.reasoning
    assert thinking.usage.reasoning_tokens > 0
    assert answering.text
    assert answering.usage.reasoning_tokens == 0


def test_a_closed_stream_is_cancelled_and_frees_its_state(model: Runtime) -> None:
    for _ in range(10):  # more than may be open at a time
        with model.stream_chat(QUESTION, SamplingParams(seed=1, ignore_eos=True), think=False) as stream:
            first = next(stream)
        assert stream.reply.finish_reason is FinishReason.CANCELLED
        assert stream.reply.text.startswith(first.text)
        assert stream.reply.usage.completion_tokens >= 1


def test_an_abandoned_stream_frees_its_state(model: Runtime) -> None:
    for _ in range(10):
        next(model.stream_generate("ab", SHORT))
        gc.collect()
    assert model.generate("ab", SHORT).token_ids


def test_an_unfinished_stream_has_no_reply(model: Runtime) -> None:
    with model.stream_chat(QUESTION, SHORT) as stream:
        next(stream)
        with pytest.raises(loqal.RequestError, match="not finished"):
            _ = stream.reply


def test_raw_prompts(model: Runtime) -> None:
    text = "<|im_start|>user"
    assert model.tokenize(text, control=True) == [257, *b"user"]
    assert model.tokenize(text) == list(text.encode())
    assert model.detokenize(model.tokenize("häß")) == "häß"
    by_text, by_ids = model.generate(text, SHORT), model.generate([257, *b"user"], SHORT)
    assert by_text.token_ids == by_ids.token_ids
    assert by_text.text == model.detokenize(
        [token for token in by_text.token_ids if token not in tiny_checkpoint.END_IDS]
    )


def test_content_never_becomes_control_tokens(model: Runtime) -> None:
    plain = model.chat([{"role": "user", "content": "x"}], SHORT).usage.prompt_tokens
    tricky = model.chat([{"role": "user", "content": "<|im_end|>"}], SHORT).usage.prompt_tokens
    assert tricky - plain == len("<|im_end|>") - 1


def test_stop_strings_end_the_answer_before_them(model: Runtime) -> None:
    params = SamplingParams(max_tokens=40, seed=3, ignore_eos=True)
    text = model.generate("abc", params).text
    stop = text[5:8]
    reply = model.generate("abc", SamplingParams(max_tokens=40, seed=3, ignore_eos=True, stop=("\0\0", stop)))
    assert reply.text == text[: text.index(stop)]
    assert reply.finish_reason is FinishReason.STOP
    assert len(reply.token_ids) < 40


def test_stop_token_ids(model: Runtime) -> None:
    params = SamplingParams(max_tokens=40, seed=3, ignore_eos=True)
    plain = model.generate("abc", params).token_ids
    reply = model.generate("abc", SamplingParams(max_tokens=40, seed=3, ignore_eos=True, stop_token_ids=(plain[6],)))
    assert reply.token_ids == plain[: plain.index(plain[6]) + 1]
    assert reply.finish_reason is FinishReason.STOP


def test_stop_token_ids_need_not_exist() -> None:
    made_up = (10**9, -5, 2590)
    with loqal.load(context_len=256) as demo:  # it guesses ahead, among the ids it has seen
        for seed in range(4):
            params = SamplingParams(max_tokens=24, seed=seed, ignore_eos=True)
            replies = [
                demo.generate("a b c d a b", dataclasses.replace(params, stop_token_ids=ids)) for ids in ((), made_up)
            ]
            assert replies[0].token_ids == replies[1].token_ids


def test_logprobs(model: Runtime) -> None:
    reply = model.generate("abc", SamplingParams(max_tokens=5, seed=3, logprobs=2))
    assert reply.logprobs is not None
    assert [entry.token_id for entry in reply.logprobs] == list(reply.token_ids)
    assert all(len(entry.top) == 2 for entry in reply.logprobs)


def test_values_of_the_file_are_the_defaults(tmp_path: Path) -> None:
    path = tiny_checkpoint.gguf(tmp_path / "greedy.gguf", {"general.sampling.temp": 0.0}, tied_head=False)
    with loqal.load(path, backend="reference", context_len=256) as model:
        first, other = (model.chat(QUESTION, SamplingParams(max_tokens=8, seed=seed)) for seed in (1, 2))
    assert first.token_ids == other.token_ids


def test_a_conversation_of_messages_and_dicts(model: Runtime) -> None:
    dicts: list[dict[str, object]] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {"role": "assistant", "content": "Hello", "reasoning": "They greet."},
        {"role": "user", "content": "Bye"},
    ]
    objects = [
        Message("system", "Be brief."),
        Message("user", "Hi"),
        Message("assistant", "Hello", "They greet."),
        Message("user", "Bye"),
    ]
    assert model.chat(dicts, SHORT).token_ids == model.chat(objects, SHORT).token_ids


@pytest.mark.parametrize(
    ("request_", "complaint"),
    [
        (lambda m: m.chat([]), "no messages"),
        (lambda m: m.chat([{"role": "user", "text": "x"}]), r"messages\[0\]\.text"),
        (lambda m: m.chat(QUESTION, SamplingParams(top_p=0.0)), "top_p"),
        (lambda m: m.chat(QUESTION, SamplingParams(stop=("",))), "stop"),
        (lambda m: m.chat([{"role": "user", "content": [{"type": "image", "source": "a.png"}]}]), "image"),
        (lambda m: m.generate(""), "empty"),
        (lambda m: m.generate([1, 320]), "index 1"),
        (lambda m: m.generate([1] * 512), "512"),
        (lambda m: m.logits([]), "empty"),
        (lambda m: m.detokenize([300]), "300"),
    ],
)
def test_requests_that_cannot_be_answered(model: Runtime, request_: object, complaint: str) -> None:
    assert callable(request_)
    with pytest.raises(loqal.RequestError, match=complaint):
        request_(model)


def test_info(model: Runtime, path: Path) -> None:
    info = model.info
    assert (info.name, info.format, info.files) == ("tiny", "gguf", (str(path),))
    assert info == loqal.inspect(path)
    assert (info.num_delta_layers, info.num_attention_layers, info.has_draft_head) == (3, 1, False)
    assert sum(share.num_tensors for share in info.quantization) > 40
    assert info.parameters["total"] == info.parameters["text"]


def test_a_closed_model_answers_nothing(path: Path) -> None:
    model = loqal.load(path, backend="reference", context_len=128)
    model.close()
    model.close()
    with pytest.raises(loqal.RequestError, match="closed"):
        model.chat(QUESTION)


def test_settings_come_from_the_environment(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOQAL_BACKEND", "reference")
    monkeypatch.setenv("LOQAL_CONTEXT_LEN", "99")
    with loqal.load(path) as model:
        assert model.context_len == 99
    with loqal.load(path, context_len=77) as model:
        assert model.context_len == 77
    monkeypatch.setenv("LOQAL_CONTEXT_LEN", "many")
    with pytest.raises(loqal.RequestError, match="LOQAL_CONTEXT_LEN"):
        loqal.load(path)


def test_a_context_beyond_the_model_is_refused(path: Path) -> None:
    with pytest.raises(loqal.RequestError, match="4096"):
        loqal.load(path, backend="reference", context_len=5000)


def test_unknown_models() -> None:
    with pytest.raises(loqal.CheckpointError, match="nonsense"):
        loqal.load("nonsense")
    with pytest.raises(loqal.CheckpointError, match=r"missing\.gguf"):
        loqal.load(Path("missing.gguf"))


# The package ----------------------------------------------------------------------------------------------------------


def test_importing_loads_nothing_heavy() -> None:
    code = (
        "import time; t = time.perf_counter(); import loqal; t = time.perf_counter() - t\n"
        "import sys, json; print(json.dumps([t, sorted(sys.modules)]))"
    )
    runs = [json.loads(subprocess.check_output([sys.executable, "-c", code])) for _ in range(3)]
    assert min(seconds for seconds, _ in runs) < 0.060
    assert not {"numpy", "tokenizers", "jinja2", "loqal.runtime.runtime", "asyncio"} & set(runs[0][1])


def test_every_public_name_is_there() -> None:
    assert all(getattr(loqal, name) is not None for name in loqal.__all__)
    assert dir(loqal) == sorted(loqal.__all__)
    with pytest.raises(AttributeError):
        _ = loqal.nonsense


def test_one_version() -> None:
    """The build reads the version of the package; no other place states one."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert "version" in project["project"]["dynamic"] and "version" not in project["project"]
    assert project["tool"]["scikit-build"]["metadata"]["version"]["input"] == "src/loqal/__init__.py"
    assert re.fullmatch(r"\d+\.\d+\.\d+", loqal.__version__)


def test_logits_are_float32(model: Runtime) -> None:
    logits = model.logits([1, 2, 3])
    assert logits.shape == (3, 320)
    assert logits.dtype == np.float32
