"""Where a prompt may be cut, and where it parted from what was known."""

from __future__ import annotations

import pytest

from chat_vocabulary import tokenizer
from loqal.engine.cache.prefix_cache import CacheReport, MissReason
from loqal.runtime.cache_report import explain, message_starts

PROMPT = "<|im_start|>user\nhello there<|im_end|>\n<|im_start|>assistant\nyes"
IDS = tokenizer().encode_with_control(PROMPT)
STARTS = message_starts(IDS, tokenizer())


def index_of(text: str) -> int:
    """How many tokens the prompt has before and with a text."""
    return len(tokenizer().encode_with_control(PROMPT[: PROMPT.index(text) + len(text)]))


def told(reason: MissReason | None, known: int = 0, cached: int = 0) -> str | None:
    return explain(CacheReport(cached, known, reason), IDS, tokenizer())


def test_messages_begin_at_their_tags() -> None:
    assert len(STARTS) == 2 and STARTS[0] == 0
    assert tokenizer().decode(IDS[STARTS[1] :], skip_special=False).startswith("<|im_start|>assistant")
    assert message_starts([], tokenizer()) == []


def test_as_much_as_can_be_needs_no_words() -> None:
    assert told(None, 9, 9) is None
    assert told(MissReason.OFF) != told(MissReason.UNKNOWN)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("<|im_start|>user\nhello", ("message 1", "user", "character 6")),
        ("<|im_end|>\n<|im_start|>assistant\n", ("message 2", "assistant", "character 1")),
        ("<|im_end|>\n<|im_start|>assistant", ("message 2",)),
    ],
)
def test_where_it_differs(text: str, place: tuple[str, ...]) -> None:
    words = told(MissReason.DIFFERS, index_of(text))
    assert words is not None and all(part in words for part in place)
    assert "character" in place[-1] or "character" not in words


def test_an_evicted_state_is_named_by_its_length() -> None:
    words = told(MissReason.EVICTED, index_of("hello"), 17)
    assert words is not None and "17" in words and "message 1" in words


def test_prompts_without_messages_and_without_text() -> None:
    ids = tokenizer().encode_text("plain words")
    words = explain(CacheReport(0, 2, MissReason.DIFFERS), ids, tokenizer())
    assert words is not None and f"character {len(tokenizer().decode(ids[:2])) + 1}" in words
    strange = explain(CacheReport(0, 2, MissReason.DIFFERS), [10**6] * 4, tokenizer())
    assert strange is not None and "token 3" in strange
