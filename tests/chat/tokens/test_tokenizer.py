"""Text to ids and back: against the plain library, against a slow twin, and with control tokens in every place."""

from __future__ import annotations

import json
import os
import unicodedata
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from chat_vocabulary import (
    NUM_PADDING,
    SHOWN,
    SPECIAL,
    base,
    gguf_metadata,
    reference,
    tokenizer,
    tokenizer_json,
)
from loqal.chat.template.native import render
from loqal.chat.template.segments import Segment, joined
from loqal.chat.tokens.tokenizer import PRE_SPLITS, Tokenizer
from loqal.errors import FormatError, RequestError, UnsupportedError
from loqal.types.messages import MediaPart, Message, TextPart, ToolCall

# Letters, marks, digits, punctuation and white space of several scripts, pieces of control tokens, and a decomposed é.
ALPHABET = "abzÉé e\u0301ßΩжЖ'tsдनमस्เา\u0300你🦊\u200d 019٣½ \t\n\r\u00a0\u3000.,;!?-_<|>/{}\"\\"
words = st.lists(
    st.one_of(
        st.text(ALPHABET, max_size=6),
        st.sampled_from([*SPECIAL, "<|im_", "start|>", "user", "\n\n", "think", "doesn't", "they'Re"]),
    ),
    max_size=8,
).map("".join)


def slow_ids(text: str) -> list[int]:
    """Byte-level BPE as a textbook has it: split, then merge the pair of the lowest rank until none is left."""
    vocab, merges = base()
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letter = dict(zip([*own, *(b for b in range(256) if b not in own)], [*own, *range(0x100, 0x200)], strict=False))
    ids = []
    for piece in regex.findall(PRE_SPLITS["qwen35"], unicodedata.normalize("NFC", text)):
        parts = [chr(letter[byte]) for byte in piece.encode()]
        while len(parts) > 1:
            rank, at = min((ranks.get(pair, len(ranks)), i) for i, pair in enumerate(pairwise(parts)))
            if rank == len(ranks):
                break
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        ids += [vocab[part] for part in parts]
    return ids


@given(words)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_text_equals_the_slow_twin(text: str) -> None:
    assert tokenizer().encode_text(text) == slow_ids(text)


@given(words)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_control_tokens_are_found_as_the_library_finds_them(text: str) -> None:
    assert tokenizer().encode_with_control(text) == reference().encode(text).ids


@given(words)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_decode_gives_the_text_back(text: str) -> None:
    ids = tokenizer().encode_text(text)
    assert tokenizer().decode(ids) == unicodedata.normalize("NFC", text)
    ids = tokenizer().encode_with_control(text)
    assert tokenizer().decode(ids) == reference().decode(ids)
    assert tokenizer().decode(ids, skip_special=False) == reference().decode(ids, skip_special_tokens=False)


@given(st.lists(st.tuples(words, st.booleans()), max_size=5))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_cutting_into_segments_changes_nothing(pieces: list[tuple[str, bool]]) -> None:
    """Without control text in the content, segments encode like their joined text."""
    clean = [(text if is_template else text.replace("|", "").replace("<", "")) for text, is_template in pieces]
    segments = [Segment(text, is_template) for text, (_, is_template) in zip(clean, pieces, strict=True)]
    whole = "".join(clean)
    ids = tokenizer().encode(segments)
    if sum(map(whole.count, SPECIAL)) == sum(
        run.count(name) for run in _template_runs(segments) for name in SPECIAL
    ):  # no control token came about by joining
        assert ids == reference().encode(whole).ids


def _template_runs(segments: list[Segment]) -> list[str]:
    marked = "".join(segment.text if segment.is_template else "\0" for segment in segments)
    return marked.split("\0")


@given(st.lists(words, max_size=6))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_content_never_becomes_a_control_token(contents: list[str]) -> None:
    ids = tokenizer().encode([Segment(text) for text in contents])
    assert not set(ids) & set(tokenizer().special_ids.values())
    assert ids == tokenizer().encode_text("".join(contents))


@pytest.mark.parametrize("name", SPECIAL)
def test_no_control_token_out_of_any_place_of_a_conversation(name: str) -> None:
    """The name of a control token, put into every place of a conversation, leaves the control tokens as they were."""

    def control(word: str) -> list[int]:
        messages = [
            Message("system", word),
            Message("user", (TextPart(word), MediaPart("image"), TextPart(f"a {word} b"))),
            Message("assistant", f"{word}x", reasoning=word, tool_calls=[ToolCall(word, {word: word, "k": [word]})]),
            Message("tool", word),
            Message("tool", (TextPart(word[:3]), TextPart(word[3:]))),
        ]
        tools = [{"name": word, "description": f"x {word}", "parameters": {word: word}}]
        ids = tokenizer().encode(render(messages, tools=tools, think=True))
        return [token_id for token_id in ids if token_id in special]

    special = set(tokenizer().special_ids.values())
    plain = control("plain words")
    assert len(plain) > 10
    assert control(name) == plain
    for cut in range(1, len(name)):  # completed by the text around it, or by a neighbour
        halves = [Segment("<|im_start|>user\n", True), Segment(name[:cut], True), Segment(name[cut:])]
        assert [i for i in tokenizer().encode(halves) if i in special] == [tokenizer().special_ids["<|im_start|>"]]
        assert not set(tokenizer().encode([Segment(name[:cut]), Segment(name[cut:], True)])) & special
        assert not set(tokenizer().encode([Segment(name[:cut]), Segment(name[cut:])])) & special


def test_conversation_encodes_as_the_reference_encodes_its_text() -> None:
    messages = [
        Message("system", "Be brief. "),
        Message("user", "\nHello,\n\nwörld ए\u093f 12\n"),
        Message("assistant", "I look.", reasoning="hm\n", tool_calls=[ToolCall("look_up", {"word": "\n\nx"})]),
        Message("tool", "\u0301found"),
    ]
    segments = render(messages, tools=[{"name": "look_up"}], think=False)
    assert tokenizer().encode(segments) == reference().encode(joined(segments)).ids


def test_both_file_formats_give_the_same_tokenizer() -> None:
    one, other = tokenizer(), Tokenizer.from_json(tokenizer_json())
    assert one.special_ids == other.special_ids
    assert one.hidden_ids == other.hidden_ids
    assert one.eos_ids == other.eos_ids
    assert one.vocab_len == other.vocab_len
    text = "The 'quick' brown <|im_end|> fox नमस्ते\n\n"
    assert one.encode_with_control(text) == other.encode_with_control(text)
    assert [one.token_bytes(i) for i in range(one.vocab_len)] == [other.token_bytes(i) for i in range(one.vocab_len)]


def test_numbers_of_the_vocabulary() -> None:
    one = tokenizer()
    assert len(one.special_ids) == 33
    assert one.vocab_len == len(base()[0]) + 33
    rows = one.vocab_len + NUM_PADDING
    assert one.padding_ids(rows) == list(range(one.vocab_len, rows))
    assert one.eos_ids == {one.special_ids["<|im_end|>"], one.special_ids["<|endoftext|>"]}
    assert {one.special_ids[name] for name in SHOWN}.isdisjoint(one.hidden_ids)


def test_every_byte_has_a_token() -> None:
    one = tokenizer()
    assert {one.token_bytes(i) for i in range(256)} == {bytes([byte]) for byte in range(256)}


def test_filler_marked_as_user_defined_is_padding() -> None:
    metadata = gguf_metadata()
    metadata["tokenizer.ggml.token_type"] = np.array([*metadata["tokenizer.ggml.token_type"][:-NUM_PADDING], *[4] * 7])
    assert Tokenizer.from_gguf(metadata).vocab_len == tokenizer().vocab_len


def test_marks_join_words_in_this_family_only() -> None:
    metadata = gguf_metadata()
    text = "a\u0301b\u0327 \u0e2a\u0e27\u0e31\u0e2a"
    pieces = {pre: regex.findall(PRE_SPLITS[pre], unicodedata.normalize("NFC", text)) for pre in PRE_SPLITS}
    assert pieces["qwen35"] == ["áb\u0327", " \u0e2a\u0e27\u0e31\u0e2a"]
    assert pieces["qwen2"] != pieces["qwen35"]
    assert Tokenizer.from_gguf({**metadata, "tokenizer.ggml.pre": "qwen2"}).decode(
        tokenizer().encode_text(text)
    ) == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("don't they'LL 'x", ["don", "'t", " they", "'LL", " '", "x"]),
        ("in 2026, 007", ["in", " ", "2", "0", "2", "6", ",", " ", "0", "0", "7"]),
        ("a  b   c", ["a", " ", " b", "  ", " c"]),
        ("x\n\n  y \n z", ["x", "\n\n", " ", " y", " \n", " z"]),
        ("f(x) += [1];\n\n}", ["f", "(x", ")", " +=", " [", "1", "];\n\n", "}"]),
        ("हिन्दी में", ["हिन्दी", " में"]),
        ("end  ", ["end", "  "]),
        ("\t\tif", ["\t", "\tif"]),
    ],
)
def test_how_words_are_cut(text: str, pieces: list[str]) -> None:
    assert regex.findall(PRE_SPLITS["qwen35"], text) == pieces
    assert tokenizer().encode_text(text) == list(chain.from_iterable(map(slow_ids, pieces)))


def test_half_a_surrogate_pair_becomes_a_replacement_character() -> None:
    assert tokenizer().decode(tokenizer().encode_text("a\ud800b")) == "a\ufffdb"
    assert tokenizer().decode(tokenizer().encode_text("\ud83e\udd8a")) == "🦊"


@pytest.mark.parametrize("token_id", [-1, 10**9])
def test_unknown_ids_are_refused(token_id: int) -> None:
    with pytest.raises(RequestError, match=str(token_id)):
        tokenizer().decode([token_id])
    with pytest.raises(RequestError):
        tokenizer().token_bytes(tokenizer().vocab_len)


def _broken(**changes: Any) -> dict[str, Any]:
    return {**gguf_metadata(), **{f"tokenizer.ggml.{key}": value for key, value in changes.items()}}


def test_broken_vocabularies_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="llama-bpe"):
        Tokenizer.from_gguf(_broken(pre="llama-bpe"))
    with pytest.raises(UnsupportedError, match="'llama'"):
        Tokenizer.from_gguf(_broken(model="llama"))
    with pytest.raises(FormatError, match="shape"):
        Tokenizer.from_gguf(_broken(token_type=[1, 1]))
    with pytest.raises(FormatError, match="merge 0"):
        Tokenizer.from_gguf(_broken(merges=["a"]))
    with pytest.raises(FormatError):
        Tokenizer.from_gguf(_broken(merges=["never seen"]))
    with pytest.raises(FormatError, match="different"):
        Tokenizer.from_gguf(_broken(tokens=["a"] * len(gguf_metadata()["tokenizer.ggml.tokens"])))
    with pytest.raises(FormatError, match="missing"):
        Tokenizer.from_gguf({"tokenizer.ggml.model": "gpt2"})
    for data in (b"", b"[]", b"{}", b'{"model": {}}'):
        with pytest.raises(FormatError):
            Tokenizer.from_json(data)
    root = json.loads(tokenizer_json())
    root["normalizer"] = None
    with pytest.raises(UnsupportedError):
        Tokenizer.from_json(json.dumps(root).encode())


@pytest.mark.parity
@pytest.mark.skipif("LOQAL_OFFICIAL_VOCAB" not in os.environ, reason="LOQAL_OFFICIAL_VOCAB names no GGUF file")
def test_ids_of_a_published_vocabulary() -> None:
    """A GGUF vocabulary with its test texts (.inp) and ids (.out) beside it, as llama.cpp ships them.

    Texts that are not in NFC are left out: the reference normalises them, llama.cpp does not.
    """
    gguf = pytest.importorskip("gguf")
    path = Path(os.environ["LOQAL_OFFICIAL_VOCAB"])
    fields = gguf.GGUFReader(path).fields
    one = Tokenizer.from_gguf({key: field.contents() for key, field in fields.items() if key.startswith("tokenizer.")})
    texts = path.with_name(path.name + ".inp").read_bytes().decode().split("\n__ggml_vocab_test__\n")
    lines = path.with_name(path.name + ".out").read_text().splitlines()
    checked = 0
    for text, line in zip(texts, lines, strict=False):
        if unicodedata.is_normalized("NFC", text):
            assert one.encode_text(text) == [int(token_id) for token_id in line.split()], text
            checked += 1
    assert checked > 40
