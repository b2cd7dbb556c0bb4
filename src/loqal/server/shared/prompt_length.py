"""The server's bound on prompt lengths, by characters. The engine checks the exact number of tokens."""

from __future__ import annotations

from collections.abc import Iterable

from loqal.errors import ContextError
from loqal.runtime.runtime import Runtime

_TYPICAL_TOKEN_CHARS, _LONGEST_TOKEN_CHARS = 8, 128


def check_length(runtime: Runtime, texts: Iterable[str]) -> None:
    """Raise ContextError for texts that are far too long, without tokenizing all of them.

    Tokenizing them would take minutes and gigabytes. The beginning of the texts is enough to decide, except where
    tokens are long, such as runs of spaces.
    """
    start, total = "", 0
    enough = runtime.context_len * _TYPICAL_TOKEN_CHARS
    for text in texts:
        total += len(text)
        start += text[: max(0, enough - len(start))]
    if total <= enough:
        return
    num_tokens = len(runtime.tokenize(start))
    if num_tokens > runtime.context_len or total > runtime.context_len * _LONGEST_TOKEN_CHARS:
        raise ContextError(
            f"The prompt has more than {max(num_tokens, runtime.context_len):,} tokens and does not fit the context.",
            f"The context has {runtime.context_len:,} tokens for prompt and reply together.",
            "Shorten the prompt or load the model with a larger context_len.",
        )


def tokenize(runtime: Runtime, text: str, *, control: bool = False) -> list[int]:
    """Token ids of a text of bounded length. Blocks, so never call it on the event loop. Raises ContextError."""
    check_length(runtime, [text])
    return runtime.tokenize(text, control=control)
