"""FairLock with tools, forms and reasoning on a tiny model: one answer each, however it is computed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import loqal
import tiny_checkpoint
from loqal import (
    FinishReason,
    Grammar,
    JsonSchema,
    Message,
    NamedTool,
    OneOf,
    Regex,
    Reply,
    ReplyOptions,
    RequestError,
    Runtime,
    SamplingParams,
    Thinking,
    Tool,
)
from loqal.chat.constraints.compiler import GrammarMatcher

QUESTION = [{"role": "user", "content": "Hello! Hello! Hello!"}]
POINT = {
    "type": "object",
    "properties": {"x": {"type": "integer"}, "name": {"type": "string", "maxLength": 9}, "on": {"type": "boolean"}},
    "required": ["x", "name", "on"],
    "additionalProperties": False,
}
TOOLS = (Tool("move", "Move there.", POINT, strict=True), Tool("stop"))
TURNS: dict[str, ReplyOptions] = {
    "schema": ReplyOptions(answer=JsonSchema(POINT)),
    "schema after reasoning": ReplyOptions(answer=JsonSchema(POINT), thinking=Thinking(True, 30)),
    "any object": ReplyOptions(answer=JsonSchema(), thinking=Thinking(False)),
    "expression": ReplyOptions(answer=Regex("(ab|cd){3,9}[0-9]"), thinking=Thinking(True, 5)),
    "grammar": ReplyOptions(answer=Grammar('start: "x" start "y" | "-"'), thinking=Thinking(False)),
    "choice": ReplyOptions(answer=OneOf(("yes", "no")), thinking=Thinking(False)),
    "required tool": ReplyOptions(tools=TOOLS, tool_choice="required", thinking=Thinking(True, 12)),
    "named tool": ReplyOptions(tools=TOOLS, tool_choice=NamedTool("move"), thinking=Thinking(False)),
    "tools or a form": ReplyOptions(tools=TOOLS, answer=OneOf(("none",)), thinking=Thinking(False)),
    "tools if need be": ReplyOptions(tools=TOOLS, thinking=Thinking(False)),
    "reasoning": ReplyOptions(thinking=Thinking(True)),
    "no tool": ReplyOptions(tools=TOOLS, tool_choice="none", thinking=Thinking(False)),
}
PARAMS = SamplingParams(max_tokens=90, seed=5, logprobs=2)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    return tiny_checkpoint.gguf(path, tied_head=False, num_draft_layers=1)


@pytest.fixture(scope="module")
def model(path: Path) -> Iterator[Runtime]:
    with loqal.load(path, context_len=2048, threads=1) as model:
        yield model


@pytest.fixture(scope="module")
def alone(path: Path) -> dict[str, Reply]:
    """Every turn by itself, without drafts and caches."""
    with loqal.load(path, context_len=2048, threads=1, drafts="off", cache_bytes=0, max_sequences=1) as model:
        return {name: model.chat(QUESTION, PARAMS, options=turn) for name, turn in TURNS.items()}


def result(reply: Reply) -> tuple[Any, ...]:
    return reply.token_ids, reply.text, reply.reasoning, reply.tool_calls, reply.finish_reason, reply.logprobs


@pytest.mark.parametrize("temperature", [None, 0.0])
def test_an_answer_does_not_depend_on_company_drafts_or_caches(
    path: Path, model: Runtime, alone: dict[str, Reply], temperature: float | None
) -> None:
    if temperature is not None:  # the greedy answers have to be found first
        params = SamplingParams(max_tokens=90, seed=5, logprobs=2, temperature=temperature)
        with loqal.load(path, context_len=2048, threads=1, drafts="off", cache_bytes=0, max_sequences=1) as plain:
            alone = {name: plain.chat(QUESTION, params, options=turn) for name, turn in TURNS.items()}
    else:
        params = PARAMS
    for _ in range(2):  # the second time with everything cached
        streams = {name: model.stream_chat(QUESTION, params, options=turn) for name, turn in TURNS.items()}
        for name, stream in streams.items():
            assert result(stream.finish()) == result(alone[name]), name


def test_every_reply_has_its_form(alone: dict[str, Reply]) -> None:
    ended = {name: reply for name, reply in alone.items() if reply.finish_reason is not FinishReason.LENGTH}
    assert len(ended) >= 5, [name for name in alone if name not in ended]
    for name in ("schema", "schema after reasoning", "any object"):
        if name in ended:
            assert isinstance(json.loads(ended[name].text), dict)
    assert ended["choice"].text in ("yes", "no")
    for name in ("required tool", "named tool"):
        if name in ended:
            assert ended[name].tool_calls
            assert ended[name].finish_reason is FinishReason.TOOL_CALLS
    assert not alone["no tool"].tool_calls


def test_streaming_equals_the_whole(model: Runtime, alone: dict[str, Reply]) -> None:
    for name, turn in TURNS.items():
        deltas = list(model.stream_chat(QUESTION, PARAMS, options=turn))
        reply = alone[name]
        assert "".join(delta.text for delta in deltas) == reply.text
        assert "".join(delta.reasoning for delta in deltas) == reply.reasoning
        assert tuple(token_id for delta in deltas for token_id in delta.token_ids) == reply.token_ids
        assert tuple(one for delta in deltas for one in delta.logprobs) == reply.logprobs
        assert tuple(delta.tool_call for delta in deltas if delta.tool_call is not None) == reply.tool_calls


@pytest.mark.parametrize("budget", [1, 2, 3, 10, 40, 200, None])
def test_reasoning_ends_and_an_answer_comes(model: Runtime, budget: int | None) -> None:
    params = SamplingParams(max_tokens=400, seed=1)
    reply = model.chat(QUESTION, params, options=ReplyOptions(thinking=Thinking(True, budget)))
    assert reply.usage.reasoning_tokens <= (300 if budget is None else budget)
    assert reply.text.strip() or reply.tool_calls
    assert "</think>" not in reply.reasoning


def test_choices_differ_by_their_seeds_alone(model: Runtime) -> None:
    turn = TURNS["schema"]
    streams = model.stream_choices(QUESTION, PARAMS, n=3, options=turn)
    for index, stream in enumerate(streams):
        params = SamplingParams(max_tokens=90, seed=5 + index, logprobs=2)
        assert result(stream.finish()) == result(model.chat(QUESTION, params, options=turn))


def test_a_raw_continuation_can_have_a_form(model: Runtime) -> None:
    reply = model.generate("number: ", SamplingParams(max_tokens=20, seed=1), answer=Regex("[0-9]{3}"))
    assert reply.text.isdigit() and len(reply.text) == 3
    assert reply.finish_reason is FinishReason.STOP


def test_a_form_that_becomes_too_complex_ends_that_reply_alone(
    model: Runtime, alone: dict[str, Reply], monkeypatch: pytest.MonkeyPatch
) -> None:
    find, asked = GrammarMatcher.mask, []

    def mask(matcher: GrammarMatcher) -> Any:
        asked.append(matcher)
        if len(asked) > 5 and matcher is asked[0]:
            raise RequestError("It became too complex.")
        return find(matcher)

    monkeypatch.setattr(GrammarMatcher, "mask", mask)
    failing = model.stream_chat(QUESTION, PARAMS, options=TURNS["any object"])
    next(failing)
    other = model.stream_chat(QUESTION, PARAMS, options=TURNS["grammar"])
    with pytest.raises(RequestError, match="too complex"):
        failing.finish()
    assert result(other.finish()) == result(alone["grammar"])


def test_biases_and_the_fewest_tokens(model: Runtime) -> None:
    for token_id in (ord("q"), ord("z")):
        pushed = SamplingParams(max_tokens=10, seed=3, logit_bias={token_id: 100.0})
        assert set(model.generate("abc", pushed).token_ids) == {token_id}
    plain = model.generate("abc", SamplingParams(max_tokens=60, seed=3, temperature=5.0, top_k=0, top_p=1.0))
    banned = dict.fromkeys(plain.token_ids[:5], -100.0)
    params = SamplingParams(max_tokens=60, seed=3, temperature=5.0, top_k=0, top_p=1.0, logit_bias=banned)
    assert not set(model.generate("abc", params).token_ids) & set(banned)
    lucky = SamplingParams(max_tokens=50, seed=3, logit_bias={258: 50.0}, min_tokens=20)
    reply = model.generate("abc", lucky)
    assert len(reply.token_ids) == 21
    assert reply.finish_reason is FinishReason.STOP
    with pytest.raises(RequestError, match="logit_bias"):
        model.generate("abc", SamplingParams(logit_bias={10**6: 1.0}))
    with pytest.raises(RequestError, match="logit_bias"):
        model.generate("abc", SamplingParams(logit_bias={1: 101.0}))


def test_a_reply_sent_back_is_read_from_the_cache(model: Runtime) -> None:
    turn = ReplyOptions(tools=TOOLS, tool_choice=NamedTool("move"), thinking=Thinking(False))
    first = model.chat(QUESTION, SamplingParams(max_tokens=300, seed=2), options=turn)
    assert first.tool_calls
    sent = Message("assistant", first.text, None, first.tool_calls, first.token_ids)
    messages = [*QUESTION, sent, {"role": "tool", "content": "done"}]
    again = model.render(messages, options=turn)
    assert again.replays == ("exact",)
    assert again.cached_tokens >= first.usage.prompt_tokens + first.usage.completion_tokens - 1
    reply = model.chat(messages, SamplingParams(max_tokens=5, seed=2), options=turn)
    assert reply.replays == ("exact",)
    assert reply.usage.cached_tokens == again.cached_tokens


def test_turn_is_an_earlier_name_of_options(model: Runtime) -> None:
    options = TURNS["any object"]
    assert model.render(QUESTION, turn=options) == model.render(QUESTION, options=options)
    assert result(model.chat(QUESTION, PARAMS, turn=options)) == result(model.chat(QUESTION, PARAMS, options=options))
    with pytest.raises(RequestError, match="both given"):
        model.chat(QUESTION, PARAMS, turn=options, options=options)


@pytest.mark.parametrize("verb", ["chat", "stream_chat", "render"])
def test_an_argument_that_does_not_exist_is_rejected(model: Runtime, verb: str) -> None:
    with pytest.raises(TypeError, match="thinking"):
        getattr(model, verb)(QUESTION, thinking=True)
