"""A tokenizer.json as metadata of GGUF: the same tokens, and fillers for the rest."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chat_vocabulary import SPECIAL, tokenizer, tokenizer_json
from loqal.chat.tokens.tokenizer import Tokenizer
from loqal.errors import FormatError
from loqal.quantize.vocabulary import vocabulary_keys

ROWS = tokenizer().vocab_len + 9
KEYS = vocabulary_keys(tokenizer_json(), ROWS, [5], "template")


def test_it_reads_and_writes_as_before() -> None:
    again = Tokenizer.from_gguf(KEYS)
    text = "<|im_start|>user\nÜnïcödé 你好 🦊 1234<|im_end|><tool_call></tool_call><think>"
    ids = tokenizer().encode_with_control(text)
    assert again.encode_with_control(text) == ids
    assert again.decode(ids, skip_special=False) == text
    assert {name: again.special_ids[name] for name in SPECIAL} == {
        name: tokenizer().special_ids[name] for name in SPECIAL
    }
    assert again.eos_ids == tokenizer().eos_ids


def test_every_row_of_the_model_has_a_token() -> None:
    tokens, types = KEYS["tokenizer.ggml.tokens"], KEYS["tokenizer.ggml.token_type"]
    assert len(tokens) == len(types) == ROWS and len(set(tokens)) == ROWS
    assert tokens[-1] == f"[PAD{ROWS - 1}]" and types[-1] == 5
    assert tokens[KEYS["tokenizer.ggml.eos_token_id"]] == "<|im_end|>"
    assert tokens[KEYS["tokenizer.ggml.padding_token_id"]] == "<|endoftext|>"
    assert KEYS["tokenizer.chat_template"] == "template"
    assert "tokenizer.chat_template" not in vocabulary_keys(tokenizer_json(), ROWS, [5], None)


def changed(**changes: Any) -> bytes:
    document = json.loads(tokenizer_json())
    for path, value in changes.items():
        place, *inner = path.split("__")
        if inner:
            document[place][inner[0]] = value
        elif value is None:
            del document[place]
        else:
            document[place] = value
    return json.dumps(document).encode()


def test_merges_of_both_spellings_and_ends_from_elsewhere() -> None:
    merges = json.loads(tokenizer_json())["model"]["merges"]
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
    texts = [" ".join(pair) for pair in pairs]
    for spelling in (pairs, texts):
        found = vocabulary_keys(changed(model__merges=spelling), ROWS, [5], None)
        assert found["tokenizer.ggml.merges"] == texts
    bare = vocabulary_keys(changed(added_tokens=[]), ROWS, [5], None)
    assert bare["tokenizer.ggml.eos_token_id"] == 5 and "tokenizer.ggml.padding_token_id" not in bare
    assert "tokenizer.ggml.eos_token_id" not in vocabulary_keys(changed(added_tokens=[]), ROWS, [], None)


@pytest.mark.parametrize(
    "data", [b"{", b"[]", changed(model=None), changed(model__vocab={"a": ROWS}), changed(added_tokens=[{"id": 1}])]
)
def test_tokenizers_that_do_not_fit(data: bytes) -> None:
    with pytest.raises(FormatError):
        vocabulary_keys(data, ROWS, [5], None)
