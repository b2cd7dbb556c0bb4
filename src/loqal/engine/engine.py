"""Token ids in, token ids out. Knows no text.

A sequence is advanced step by step: each step feeds the tokens its state has not seen yet, at most ``chunk_tokens`` of
them, and draws a new token once all were seen. Reading a prompt and writing a reply are the same loop.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from collections.abc import Sequence as Ids

import numpy as np

from .. import limits
from ..errors import ContextError, RequestError
from ..model.decoder import Decoder
from ..ops.interface import FloatArray, Ops
from ..state.store import SequenceState, StateStore
from ..types import TokenEvent
from . import sampling, step_batch
from .head_logits import HeadLogits
from .sequence import Sequence


class Engine:
    """Runs sequences over one model.

    Several sequences may be open at a time, from several threads; one step runs at a time.

    Args:
        context_len: most tokens of prompt and reply together.
        padding_ids: rows of the vocabulary without a token; they are never chosen.
        chunk_tokens: most prompt tokens in one step. Changes no bit of any result.
    """

    def __init__(
        self,
        decoder: Decoder,
        state: StateStore,
        ops: Ops,
        *,
        context_len: int,
        padding_ids: Ids[int] = (),
        chunk_tokens: int = 512,
    ) -> None:
        self._decoder, self._store, self._ops = decoder, state, ops
        self._chunk_tokens = chunk_tokens
        self._vocab_size = decoder.config.vocab_size
        self._padding_ids = np.array(padding_ids, np.int32)
        # Reentrant: the garbage collector may close an abandoned stream, and so release its state, in the middle of
        # another sequence's step.
        self._lock = threading.RLock()
        self.context_len = context_len

    def submit(self, sequence: Sequence) -> Generator[TokenEvent, None, None]:
        """Check a sequence and return the stream of its tokens. Closing the stream cancels it and frees its state.

        Raises:
            RequestError: the prompt is empty or holds ids outside the vocabulary, or a parameter is out of range.
            ContextError: prompt and one token do not fit the context.
            CapacityError: too many sequences are open (when the first token is asked for).
        """
        limits.check(sequence.params)
        self._check_ids(sequence.token_ids, room=1)
        return self._generate(sequence)

    def logits(self, token_ids: Ids[int]) -> FloatArray:
        """Logits after every token of a sequence: -> [T V], float32. Raises as ``submit`` does."""
        self._check_ids(token_ids, room=0)
        with self._lock:
            state = self._store.open()
        try:
            rows = []
            while state.length < len(token_ids):
                chunk = token_ids[state.length : state.length + self._chunk_tokens]
                rows.append(self._decoder.unembed(self._step(state, chunk, range(len(chunk)))))
            return np.concatenate(rows)
        finally:
            self._release(state)

    def _generate(self, sequence: Sequence) -> Generator[TokenEvent, None, None]:
        with self._lock:
            state = self._store.open()
        try:
            event: TokenEvent | None = None
            while event is None or event.finish_reason is None:
                chunk = sequence.token_ids[state.length : state.length + self._chunk_tokens]
                is_last = state.length + len(chunk) == len(sequence.token_ids)
                hidden = self._step(state, chunk, [len(chunk) - 1] if is_last else [])
                if is_last:
                    event = self._choose(sequence, hidden)
                    yield event
        finally:
            self._release(state)

    def _step(self, state: SequenceState, token_ids: Ids[int], logit_rows: Ids[int]) -> FloatArray:
        """Feed tokens to a state; hidden rows of those whose logits are wanted: -> [R D]."""
        positions = np.arange(state.length, state.length + len(token_ids), dtype=np.int32)
        with self._lock:
            self._store.reserve(state, len(token_ids))
            run = step_batch.Run(state, token_ids, np.repeat(positions[:, None], 3, axis=1), logit_rows)
            batch = step_batch.build([run])
            hidden = self._ops.run_step(lambda step: self._decoder.forward(step, self._store), batch)
            self._store.advance(state, len(token_ids))
            return self._ops.select(hidden, batch.logit_rows)

    def _choose(self, sequence: Sequence, hidden: FloatArray) -> TokenEvent:
        """Draw the token after a hidden row [1 D]."""
        params = sequence.params
        logits = HeadLogits(self._decoder, hidden, self._padding_ids)
        token_id = sampling.choose(
            logits,
            params,
            self._ops.candidates,
            seed=sequence.seed,
            position=len(sequence.token_ids),
            counted=sequence.counted,
        )
        logprobs = None
        if params.logprobs is not None:
            logprobs = sampling.logprobs(logits.row(), token_id, params.logprobs, self._ops.candidates)
        return TokenEvent(token_id, logprobs, sequence.append(token_id, self.context_len))

    def _release(self, state: SequenceState) -> None:
        with self._lock:
            self._store.release(state)

    def _check_ids(self, token_ids: Ids[int], *, room: int) -> None:
        if not token_ids:
            raise RequestError(
                "The prompt is empty.", "A reply continues at least one token.", "Give some text or ids."
            )
        if len(token_ids) + room > self.context_len:
            raise ContextError(
                f"The prompt has {len(token_ids)} tokens and does not fit.",
                f"The context holds {self.context_len} tokens, the reply included.",
                "Shorten the prompt or load the model with a larger context_len.",
            )
        for index, token_id in enumerate(token_ids):
            if not 0 <= token_id < self._vocab_size:
                raise RequestError(
                    f"Token id {token_id} at index {index} is not in the vocabulary.",
                    f"Ids run from 0 to {self._vocab_size - 1}.",
                    "Use the ids of this model's tokenizer.",
                )
