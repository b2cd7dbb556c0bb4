"""A waiting or running sequence: its state, its place in the queue, and its mailbox."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from loqal.engine.cache.media_keys import MediaKeys
from loqal.engine.cache.radix_tree import Keys
from loqal.engine.event_stream import Mailbox
from loqal.engine.sequence import Sequence
from loqal.ops.interface import FloatArray
from loqal.state.store import SequenceState
from loqal.types.reply import TokenEvent


class RunningSequence:
    """One sequence between its arrival and its end.

    Attributes:
        state: None while it waits.
        restoring: its beginning on its way from the disk, None before it was looked for.
        planned: lengths at which its prompt is still to be captured, ascending.
    """

    def __init__(self, sequence: Sequence, mailbox: Mailbox[TokenEvent], arrival: int, media: MediaKeys) -> None:
        self.sequence, self.mailbox, self.arrival = sequence, mailbox, arrival
        self.state: SequenceState | None = None
        self.planned: list[int] = []
        self.restoring: Iterator[None] | None = None
        self._prompt_keys = prompt_keys(sequence, media)
        self._embedded: dict[int, FloatArray] = {}  # media spans that are being read, by start

    @property
    def length(self) -> int:
        """Tokens its state holds."""
        return 0 if self.state is None else self.state.length

    @property
    def num_missing(self) -> int:
        """Tokens its state does not hold yet."""
        return len(self.sequence.token_ids) - self.length

    @property
    def is_writing(self) -> bool:
        """Whether only its newest token is missing, so that the next step draws another."""
        return self.state is not None and self.num_missing == 1 and self.sequence.num_generated > 0

    @property
    def prompt_keys(self) -> Keys:
        """Keys of the prompt in the prefix cache."""
        return self._prompt_keys

    def keys(self, length: int) -> Keys:
        """Keys of the first tokens in the prefix cache, generated ones included."""
        if length <= len(self._prompt_keys):
            return self._prompt_keys[:length]
        generated = np.array(self.sequence.token_ids[self.sequence.prompt_len : length], np.int64)
        return np.concatenate([self._prompt_keys, generated])

    def inputs(self, start: int, end: int) -> list[tuple[int, FloatArray]]:
        """Rows [n D] in place of tokens ``start`` to ``end``, each block with its offset from ``start``."""
        found = []
        for span in self.sequence.media:
            first, last = max(span.start, start), min(span.end, end)
            if first >= last:
                continue
            if span.start not in self._embedded:
                self._embedded[span.start] = np.ascontiguousarray(span.embed(), np.float32)
            found.append((first - start, self._embedded[span.start][first - span.start : last - span.start]))
            if last == span.end:
                del self._embedded[span.start]
        return found


def prompt_keys(sequence: Sequence, media: MediaKeys) -> Keys:
    """Keys of a prompt in the prefix cache."""
    keys = np.array(sequence.token_ids[: sequence.prompt_len], np.int64)
    for span in sequence.media:
        keys[span.start : span.end] = media.keys(span.digest, span.length)
    return keys
