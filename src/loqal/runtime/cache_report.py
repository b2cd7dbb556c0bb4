"""Cache report: message boundaries for the prefix cache, and the reason of a cache miss in words."""

from __future__ import annotations

from collections.abc import Sequence

from loqal.chat.tokens.tokenizer import Tokenizer
from loqal.engine.cache.prefix_cache import CacheReport, MissReason
from loqal.errors import RequestError

_TURN = "<|im_start|>"
_WORDS = {
    MissReason.OFF: "The prefix cache is disabled.",
    MissReason.UNKNOWN: "No cached request begins with the same tokens.",
}


def message_starts(prompt_ids: Sequence[int], tokenizer: Tokenizer) -> list[int]:
    """Indices of the tokens that open a message."""
    turn = tokenizer.special_ids.get(_TURN)
    return [index for index, token_id in enumerate(prompt_ids) if token_id == turn]


def explain(report: CacheReport, prompt_ids: Sequence[int], tokenizer: Tokenizer) -> str | None:
    """Why no more of a prompt came from the cache; None when as much did as can."""
    if report.reason is None:
        return None
    if report.reason in _WORDS:
        return _WORDS[report.reason]
    try:
        where = _place(report.known, prompt_ids, tokenizer)
    except RequestError:  # ids without text
        where = f"token {report.known + 1}"
    if report.reason is MissReason.EVICTED:
        return f"The prompt was cached up to {where}, but its state after token {report.cached} was evicted."
    return f"It first differs from cached requests at {where}."


def _place(index: int, prompt_ids: Sequence[int], tokenizer: Tokenizer) -> str:
    """Message and character of a token, as the prompt is rendered: counted from 1, the role's line left out."""
    starts = [start for start in message_starts(prompt_ids, tokenizer) if start < index]
    if not starts:
        return f"character {len(tokenizer.decode(prompt_ids[:index])) + 1}"
    text = tokenizer.decode(prompt_ids[starts[-1] : index])
    role, line_end, content = text.partition("\n")
    if not line_end:
        return f"the role of message {len(starts)}"
    return f"message {len(starts)} ({role}), character {len(content) + 1}"
