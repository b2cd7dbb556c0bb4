"""Streams of ids to text, and stop strings in it, cut in every way."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chat_vocabulary import tokenizer
from loqal.chat.tokens.detokenizer import Detokenizer, StopStrings


def streamed(ids: list[int], *, skip_special: bool = True) -> list[str]:
    detokenizer = Detokenizer(tokenizer(), skip_special=skip_special)
    return [*(detokenizer.push(token_id) for token_id in ids), detokenizer.flush()]


@given(st.lists(st.integers(0, tokenizer().vocab_len - 1), max_size=30), st.booleans())
@settings(max_examples=150, deadline=None, derandomize=True)
def test_pieces_add_up_to_the_whole(ids: list[int], skip_special: bool) -> None:
    assert "".join(streamed(ids, skip_special=skip_special)) == tokenizer().decode(ids, skip_special=skip_special)


@pytest.mark.parametrize("char", ["é", "न", "你", "🦊", "\U0010ffff", "\ufffd"])
def test_no_character_is_cut(char: str) -> None:
    single = {tokenizer().token_bytes(i): i for i in range(256)}
    ids = [single[bytes([byte])] for byte in f"a{char}b".encode()]
    pieces = streamed(ids)
    assert pieces == ["a", *[""] * (len(char.encode()) - 1), char, "b", ""]


@pytest.mark.parametrize("char", ["é", "你", "🦊"])
def test_a_character_that_never_ends_becomes_a_replacement(char: str) -> None:
    single = {tokenizer().token_bytes(i): i for i in range(256)}
    for length in range(1, len(char.encode())):
        ids = [single[bytes([byte])] for byte in char.encode()[:length]]
        assert "".join(streamed(ids)) == "\ufffd"
        assert "".join(streamed([*ids, single[b"x"]])) == "\ufffdx"


def test_flush_starts_afresh() -> None:
    single = {tokenizer().token_bytes(i): i for i in range(256)}
    detokenizer = Detokenizer(tokenizer())
    assert detokenizer.push(single[b"\xc3"]) == ""
    assert detokenizer.flush() == "\ufffd"
    assert detokenizer.push(single[b"x"]) == "x"


def stop_at_once(stops: list[str], text: str) -> tuple[str, bool]:
    """The rule, character by character: the first stop string that is complete ends the text before it."""
    for end in range(1, len(text) + 1):
        met = [stop for stop in stops if stop and text[:end].endswith(stop)]
        if met:
            return text[: end - max(map(len, met))], True
    return text, False


@given(
    st.lists(st.text("abc", max_size=4), max_size=3),
    st.lists(st.text("abcx", max_size=5), max_size=8),
)
@settings(max_examples=250, deadline=None, derandomize=True)
def test_stop_strings_do_not_depend_on_the_cut(stops: list[str], pieces: list[str]) -> None:
    matcher = StopStrings(stops)
    shown, stopped = "", False
    for piece in pieces:
        text, stopped = matcher.push(piece)
        shown += text
        if stopped:
            break
    else:
        shown += matcher.flush()
    assert (shown, stopped) == stop_at_once(stops, "".join(pieces))


def test_only_what_may_begin_a_stop_string_is_held_back() -> None:
    matcher = StopStrings(["###"])
    assert matcher.push("a#") == ("a", False)
    assert matcher.push("#b") == ("##b", False)
    assert matcher.push("##") == ("", False)
    assert matcher.flush() == "##"
    assert matcher.push("#") == ("", False)
    assert matcher.push("##tail") == ("", True)
