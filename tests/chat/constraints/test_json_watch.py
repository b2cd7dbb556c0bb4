"""A watch bans what makes a text wrong that a grammar lets through, and nothing of a right one."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from chat_vocabulary import tokenizer
from loqal.chat.constraints.json_watch import CallWatch, JsonWatch, ReplyWatch, TokenStarts

STARTS = TokenStarts(tokenizer())
CALL = tokenizer().special_ids["<tool_call>"]
NUM_WORDS = -(-tokenizer().vocab_len // 32)
KEYS = st.text('ab"\\\né/', max_size=3)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(-1e99, 1e99, allow_subnormal=False).filter(lambda number: number == 0 or abs(number) > 1e-99)
    | KEYS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


def bans(watch: JsonWatch | CallWatch, text: str) -> bool:
    """Whether at some place of a text what follows is banned."""
    data = text.encode()
    for index, byte in enumerate(data):
        if any(data.startswith(start, index) for start in watch.banned()):
            return True
        watch.push(byte)
    return False


@given(VALUES, st.booleans(), st.sampled_from([(",", ":"), (", ", ": ")]))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_nothing_of_a_right_text_is_banned(value: Any, ascii_only: bool, separators: tuple[str, str]) -> None:
    assert not bans(JsonWatch(), json.dumps(value, ensure_ascii=ascii_only, separators=separators))


@given(VALUES.filter(lambda value: isinstance(value, (dict, list, str))))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_a_text_is_done_at_its_end_and_no_earlier(value: Any) -> None:
    watch = JsonWatch()
    for byte in json.dumps(value).encode():
        assert not watch.is_done
        watch.push(byte)
    assert watch.is_done and watch.is_outside


@given(st.dictionaries(KEYS, VALUES, min_size=1, max_size=3), st.data())
@settings(max_examples=300, deadline=None, derandomize=True)
def test_no_key_comes_twice_however_it_is_spelled(value: dict[str, Any], data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(value)))
    spelled = json.dumps(key, ensure_ascii=data.draw(st.booleans()))
    if key and data.draw(st.booleans()):
        spelled = f'"\\u{ord(key[0]):04x}' + json.dumps(key[1:])[1:]
    text = json.dumps(value, ensure_ascii=data.draw(st.booleans()))
    outside = data.draw(st.sampled_from(["{}", '[1, {{"b": {}}}]', '{{"a": {}}}']))
    assert not bans(JsonWatch(), outside.format(text))
    assert bans(JsonWatch(), outside.format(f"{text[:-1]}, {spelled}: 1}}"))


def test_numbers_and_arrays_end() -> None:
    assert not bans(JsonWatch(), "[1e99, -1E-99, " + "1" * 40 + ', "1e100"]')
    assert all(bans(JsonWatch(), f"[{number}]") for number in ("1e100", "1E+100", "1e-100", "1" * 41, "0." + "0" * 40))
    assert not bans(JsonWatch(), json.dumps([0] * 4097)) and bans(JsonWatch(), json.dumps([0] * 4098))


def of_call(text: str, **json_arguments: str) -> bool:
    return bans(CallWatch({name: frozenset(keys) for name, keys in json_arguments.items()}), text)


def argument(key: str, text: str) -> str:
    return f"<parameter={key}>\n{text}\n</parameter>\n"


TWICE = '{"a": 1, "a": 2}'


def test_json_in_calls() -> None:
    call = "\n<function=f>\n" + argument("a", TWICE) + "</function>"
    assert of_call(call, f="a") and not of_call(call, f="b") and not of_call(call, g="a")
    assert of_call("\n<function=f>\n" + argument("s", "x") + argument("a", TWICE), f="a")
    assert of_call('\n{"name": "f", "arguments": ' + TWICE + "}")
    assert not of_call('\n{"name": "f", "arguments": {"name": 1}}')


def test_no_parameter_comes_twice() -> None:
    assert of_call("<function=f>\n" + argument("a", "1") + argument("b", "1") + argument("a", "2"))
    assert not of_call("<function=f>\n" + argument("a", "1") + argument("ab", "1") + argument("b", "2"))
    quoted = "<function=g>\n" + argument("a", "1") + argument("a", "2") + "</function>"
    assert not of_call("<function=f>\n" + argument("c", quoted) + argument("a", "1"))


def allowed(watch: ReplyWatch) -> set[int]:
    mask = np.full(NUM_WORDS, 0xFFFFFFFF, np.uint32)
    watch.restrict(mask)
    return set(np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little")).tolist())


@given(st.text('a"{},: é<\n', min_size=1, max_size=2))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_tokens_by_their_beginnings(start: str) -> None:
    special = set(tokenizer().special_ids.values())
    texts = enumerate(tokenizer().all_bytes())
    right = {index for index, text in texts if text.startswith(start.encode()) and index not in special}
    assert set(STARTS.beginning_with(start.encode()).tolist()) == right


def test_a_mask_loses_what_is_banned_and_is_never_emptied() -> None:
    watch = ReplyWatch(STARTS, {}, is_json=True, call_open=CALL)
    everything = allowed(watch)
    for token_id in tokenizer().encode_text('{"a": 1, "a'):
        watch.push(token_id)
    banned = set(STARTS.beginning_with(b'"').tolist())
    assert banned and allowed(watch) == everything - banned
    mask = np.zeros(NUM_WORDS, np.uint32)
    for token_id in banned:
        mask[token_id >> 5] |= np.uint32(1 << (token_id & 31))
    only = mask.copy()
    watch.restrict(only)
    assert (only == mask).all()


def test_a_copy_goes_on_by_itself() -> None:
    watch = ReplyWatch(STARTS, {}, is_json=True, call_open=CALL)
    before = allowed(watch)
    other = watch.copy()
    for token_id in tokenizer().encode_text('{"a": 1, "a'):
        other.push(token_id)
    assert allowed(watch) == before != allowed(other)


def test_a_call_is_watched_from_its_tag_on() -> None:
    watch = ReplyWatch(STARTS, {"f": frozenset("a")}, is_json=False, call_open=CALL)
    begun = tokenizer().encode_text("\n<function=f>\n<parameter=a>\n" + '{"a": 1, "a')
    for token_id in begun:
        watch.push(token_id)
    everything = allowed(watch)
    for _ in range(2):
        for token_id in [CALL, *begun]:
            watch.push(token_id)
        assert allowed(watch) == everything - set(STARTS.beginning_with(b'"').tolist())
    assert STARTS.token_bytes(CALL) == b""
