"""Pieces of a reply: stop strings end the answer, and every token id is passed on once."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from chat_vocabulary import tokenizer
from loqal.runtime.reply_stream import PlainParser, StopFilter
from loqal.types.reply import ReplyDelta, ToolCallDelta

CALL = ReplyDelta(call_piece=ToolCallDelta(0, "x"))
PIECES = st.lists(
    st.one_of(
        st.text(alphabet="abc", max_size=3).map(lambda text: ReplyDelta(text=text)),
        st.text(alphabet="abc", min_size=1, max_size=3).map(lambda text: ReplyDelta(reasoning=text)),
        st.just(CALL),
    ),
    max_size=8,
)


def filtered(stops: list[str], deltas: list[ReplyDelta], end_ids: tuple[int, ...] = ()) -> tuple[StopFilter, Any]:
    stop = StopFilter(stops)
    shown = []
    for index, delta in enumerate(deltas):
        numbered = ReplyDelta(delta.text, delta.reasoning, token_ids=(index,), call_piece=delta.call_piece)
        shown += stop.push([numbered])
    return stop, shown + stop.finish([], end_ids)


@given(PIECES, st.lists(st.text(alphabet="abc", min_size=1, max_size=3), max_size=2))
def test_the_answer_ends_before_the_first_stop_string(deltas: list[ReplyDelta], stops: list[str]) -> None:
    stop, shown = filtered(stops, deltas, (99,))
    ids = [token_id for delta in shown for token_id in delta.token_ids]
    assert ids == [*range(len(deltas)), 99]  # all of them, in order, once
    answer = "".join(delta.text for delta in shown)
    whole = "".join(delta.text for delta in deltas)
    assert whole.startswith(answer)
    assert not any(one in answer for one in stops) or any(delta.reasoning or delta.call_piece for delta in deltas)
    assert stop.stopped == (answer != whole) or stop.stop_string is not None
    if not stops:
        assert answer == whole and not stop.stopped
        assert [delta.reasoning for delta in shown if delta.reasoning] == [d.reasoning for d in deltas if d.reasoning]


def test_a_stop_string_may_come_in_pieces() -> None:
    stop, shown = filtered(["STOP"], [ReplyDelta(text=text) for text in ("one S", "T", "OP two", "three")])
    assert "".join(delta.text for delta in shown) == "one "
    assert stop.stopped and stop.stop_string == "STOP"


def test_in_reasoning_it_is_not_meant() -> None:
    stop, shown = filtered(["STOP"], [ReplyDelta(reasoning="STOP"), ReplyDelta(text="ST"), CALL, ReplyDelta(text="OP")])
    assert not stop.stopped
    assert [(delta.text, delta.reasoning) for delta in shown if delta.text or delta.reasoning] == [
        ("", "STOP"),
        ("ST", ""),  # a call parts what stands before it from what stands behind
        ("OP", ""),
    ]


def test_plain_continuations_are_text_whatever_they_say() -> None:
    text = "</think><tool_call>ä🦊"
    ids = tokenizer().encode_with_control(text)
    parser = PlainParser(tokenizer())
    deltas = [delta for token_id in ids for delta in parser.push(token_id)] + parser.finish()
    assert "".join(delta.text for delta in deltas) == text
    assert [token_id for delta in deltas for token_id in delta.token_ids] == ids
    assert parser.reasoning_tokens == 0
