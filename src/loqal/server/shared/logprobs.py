"""The JSON of log probabilities, the same in every dialect but OpenAI's older completions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from loqal.types.reply import TokenLogprobs

TokenBytes = Callable[[int], bytes]
"""The bytes of one token, which may be a part of a character."""


def format_logprobs(logprobs: Iterable[TokenLogprobs], token_bytes: TokenBytes) -> list[dict[str, Any]]:
    """One entry per token, with the token's exact bytes. ``token`` has U+FFFD where they are not valid UTF-8."""

    def entry(token_id: int, logprob: float) -> dict[str, Any]:
        data = token_bytes(token_id)
        return {"token": data.decode(errors="replace"), "logprob": logprob, "bytes": list(data)}

    return [
        {**entry(one.token_id, one.logprob), "top_logprobs": [entry(*pair) for pair in one.top]} for one in logprobs
    ]
