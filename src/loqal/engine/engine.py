"""The engine: sequences of token ids in, streams of token events out, for many callers at once.

One thread owns the model and its states (``Loop``). Callers put jobs into its inbox and read tokens from streams;
neither ever waits for a step to end, and a caller that reads slowly delays no other.
"""

from __future__ import annotations

import atexit
import queue
import threading
import time
import weakref
from collections.abc import Callable
from collections.abc import Sequence as Ids
from concurrent.futures import Future
from functools import partial
from typing import Any

import numpy as np

from loqal.engine import sampling
from loqal.engine.cache.prefix_cache import CacheReport
from loqal.engine.event_stream import EventStream, Mailbox
from loqal.engine.loop import Loop
from loqal.engine.memory_plan import LOGIT_ROWS
from loqal.engine.options import EngineOptions
from loqal.engine.sequence import PromptRead, Sequence
from loqal.errors import CapacityError, ContextError, RequestError
from loqal.model.decoder import Decoder
from loqal.model.draft_head import DraftHead
from loqal.ops.interface import FloatArray
from loqal.state.disk_cache import DiskCache
from loqal.state.store import StateStore, num_pages
from loqal.types.reply import TokenEvent, TokenLogprobs
from loqal.types.sampling import SamplingParams

_SOON_S, _LATE_S = 1.0, 10.0  # how long to wait for a thread that has nothing to do, or is in a step
_Job = Callable[[Loop], Any]
# Inboxes of the threads that have not ended. A thread that has left its loop still frees the states.
_RUNNING: weakref.WeakKeyDictionary[threading.Thread, queue.SimpleQueue[_Job | None]] = weakref.WeakKeyDictionary()


class Engine:
    """Runs sequences over one model.

    Args:
        draft_head: proposes draft tokens; without one only the sequences themselves are searched for them.
        disk: where states outlive the process, if anywhere.
    """

    def __init__(
        self,
        decoder: Decoder,
        store: StateStore,
        options: EngineOptions,
        *,
        draft_head: DraftHead | None = None,
        disk: DiskCache | None = None,
    ) -> None:
        self._decoder, self._store, self._options = decoder, store, options
        self._vocab_size = decoder.config.vocab_size
        self._inbox: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._start_lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._loop = Loop(decoder, store, options, draft_head=draft_head, disk=disk)

    def submit(self, sequence: Sequence) -> EventStream[TokenEvent]:
        """Check a sequence and return the stream of its tokens. Closing the stream cancels it and frees its state.

        Raises:
            RequestError: the prompt is empty, or an id in it or in logit_bias is not in the vocabulary.
            ContextError: prompt and one token do not fit the context.
            CapacityError: the prompt's state is larger than all memory for states.
        """
        return self.submit_all([sequence])[0]

    def submit_all(self, sequences: Ids[Sequence]) -> list[EventStream[TokenEvent]]:
        """``submit`` several sequences that arrive together, so that a shared prefix is read once."""
        for sequence in sequences:
            self._check_ids(sequence.token_ids, room=0 if sequence.reading else 1)
            for token_id in sequence.params.logit_bias or ():
                self._check_id(token_id, "in logit_bias")
            self._check_room(len(sequence.token_ids))
        mailboxes: list[Mailbox[TokenEvent]] = [Mailbox() for _ in sequences]
        inbox = self._inbox  # not self: an abandoned stream must not keep the engine, nor the engine the stream
        with self._start_lock:
            self._start()
            inbox.put(partial(Loop.add_all, arrivals=list(zip(sequences, mailboxes, strict=True))))
        return [EventStream(mailbox, partial(inbox.put, partial(_cancel, mailbox))) for mailbox in mailboxes]

    def logits(self, token_ids: Ids[int]) -> FloatArray:
        """Logits after every token of a sequence: -> [T V], float32. Raises as ``submit`` does."""
        rows: list[FloatArray] = []
        self.read(token_ids, PromptRead(0, lambda hidden: rows.append(self._decoder.unembed(hidden))))
        return np.concatenate(rows)

    def logprobs(self, token_ids: Ids[int], start: int, num_top: int = 0) -> list[TokenLogprobs]:
        """Log probabilities of every token from index ``start`` on, given those before it. Raises as ``submit`` does.

        Args:
            num_top: how many of the most likely alternatives are included.
        """
        if not 0 < start < len(token_ids):
            raise RequestError(
                f"Scoring cannot begin at token {start} of {len(token_ids)}.",
                "A token is scored given at least one token before it.",
                "Give some text to begin with, and a continuation that is not empty.",
            )
        found: list[TokenLogprobs] = []

        def take(hidden: FloatArray) -> None:
            for first in range(0, len(hidden), LOGIT_ROWS):
                for row in self._decoder.unembed(np.ascontiguousarray(hidden[first : first + LOGIT_ROWS])):
                    if len(found) < len(token_ids) - start:  # the last row says what would follow
                        token_id = token_ids[start + len(found)]
                        found.append(sampling.logprobs(row, token_id, num_top, self._decoder.ops.candidates))

        self.read(token_ids, PromptRead(start - 1, take))
        return found

    def pooled(self, token_ids: Ids[int], *, mean: bool) -> FloatArray:
        """The mean of the hidden rows of a sequence, or its last one: -> [D]. Raises as ``submit`` does."""
        total = np.zeros((1, self._decoder.config.width), np.float64)

        def take(hidden: FloatArray) -> None:
            nonlocal total
            if mean:  # row by row, so that chunks change no bit
                total = np.add.reduce(np.concatenate([total, hidden]), axis=0, keepdims=True)
            else:
                total = hidden[-1:].astype(np.float64)

        self.read(token_ids, PromptRead(0 if mean else len(token_ids) - 1, take))
        result: FloatArray = (total[0] / (len(token_ids) if mean else 1)).astype(np.float32)
        return result

    def read(self, token_ids: Ids[int], reading: PromptRead, **kwargs: Any) -> Sequence:
        """Read a prompt to its end and hand its hidden rows to ``reading``. Raises as ``submit`` does."""
        sequence = Sequence(token_ids, SamplingParams(seed=0), reading=reading, **kwargs)
        for _ in self.submit(sequence):
            pass
        return sequence

    def forecast(self, sequence: Sequence) -> CacheReport:
        """The in-memory prefix cache's report for a prompt, without taking anything."""
        report: CacheReport = self.call(lambda loop: loop.forecast(sequence))
        return report

    def call(self, job: Callable[[Loop], Any]) -> Any:
        """Run a job between two steps, on the engine's thread, and return its result."""
        done: Future[Any] = Future()
        with self._start_lock:
            self._start()
            self._inbox.put(partial(_answer, job, done))
        return done.result()

    def wait_idle(self) -> None:
        """Wait until no sequence is running or waiting."""
        while not self.call(lambda loop: loop.is_idle):
            time.sleep(0.001)

    def close(self) -> None:
        """Accept no more sequences; the thread ends when the open streams have ended. Closing twice does nothing."""
        is_idle = not self._is_closed and self._thread is not None and self.call(lambda loop: loop.is_idle)
        with self._start_lock:
            if self._is_closed:
                return
            self._is_closed = True
            self._inbox.put(None)
        if self._thread is not None and is_idle:
            # Memory is free, and the disk up to date, on return.
            self._thread.join(_SOON_S if self._loop.cache.saved is None else None)

    def stop(self, timeout_s: float = _LATE_S) -> None:
        """Cancel everything and wait for the thread to end."""
        self.close()
        self._inbox.put(Loop.cancel_all)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)

    def __del__(self) -> None:
        self._inbox.put(None)

    def _start(self) -> None:
        """Start the thread unless it runs. The caller holds the lock. Raises RequestError when the model was closed."""
        if self._is_closed:
            raise RequestError("The model was closed.", "A closed model accepts no requests.", "Load it again.")
        if self._thread is None:
            arguments = (self._loop, self._inbox, self._options.checks)
            self._thread = threading.Thread(target=_work, args=arguments, name="loqal-engine", daemon=True)
            _RUNNING[self._thread] = self._inbox
            self._thread.start()

    def _check_room(self, length: int) -> None:
        store = self._store
        needed = num_pages(length + 1) * store.pages.unit_bytes + store.slots.unit_bytes
        budget = store.budget_bytes
        if num_pages(length + 1) > store.pages.size or (budget is not None and needed > budget):
            has = store.pages.size * store.pages.unit_bytes if budget is None else budget
            raise CapacityError(
                f"The state of a prompt of {length} tokens takes {needed:,} bytes.",
                f"{has:,} bytes are planned for the states of all requests.",
                "Shorten the prompt, or load the model with more memory.",
            )

    def check_length(self, length: int, *, room: int) -> None:
        """Raise ContextError when a prompt and ``room`` more tokens do not fit the context."""
        if length + room > self._options.context_len:
            raise ContextError(
                f"The prompt has {length} tokens and does not fit.",
                f"The context holds {self._options.context_len} tokens, the reply included.",
                "Shorten the prompt or load the model with a larger context_len.",
            )

    def _check_ids(self, token_ids: Ids[int], *, room: int) -> None:
        if not token_ids:
            raise RequestError(
                "The prompt is empty.", "A reply continues at least one token.", "Give some text or ids."
            )
        self.check_length(len(token_ids), room=room)
        for index, token_id in enumerate(token_ids):
            self._check_id(token_id, f"at index {index}")

    def _check_id(self, token_id: int, where: str) -> None:
        if not 0 <= token_id < self._vocab_size:
            raise RequestError(
                f"Token id {token_id} {where} is not in the vocabulary.",
                f"Ids run from 0 to {self._vocab_size - 1}.",
                "Use the ids of this model's tokenizer.",
            )


def _work(loop: Loop, inbox: queue.SimpleQueue[_Job | None], checks: bool) -> None:
    """The engine's thread. It holds the loop but not the ``Engine``, which may be collected while the thread runs."""
    is_closing = False
    while not (is_closing and loop.is_idle):
        try:
            job = inbox.get(block=loop.is_idle)
        except queue.Empty:
            job = Loop.step
        try:
            if job is None:
                is_closing = True
            else:
                job(loop)
            if checks and loop.is_idle:
                loop.check()
        except BaseException as error:  # callers wait for an event: every sequence gets one
            loop.fail_all(error)
    loop.close()


def _answer(job: Callable[[Loop], Any], done: Future[Any], loop: Loop) -> None:
    """Run a job and hand its result, or its error, to the caller that waits for it."""
    try:
        done.set_result(job(loop))
    except BaseException as error:
        done.set_exception(error)


def _cancel(mailbox: Mailbox[TokenEvent], loop: Loop) -> None:
    loop.cancel(mailbox)


@atexit.register
def _stop_all() -> None:
    """End the threads before the interpreter does: one that waits for it inside native code then aborts the process."""
    running = dict(_RUNNING)
    for inbox in running.values():
        inbox.put(Loop.cancel_all)
        inbox.put(None)
    for thread in running:
        thread.join(_LATE_S)
