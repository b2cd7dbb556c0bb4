"""One engine of a comparison: llama.cpp, through the C functions that llama-cpp-python binds.

    PEER_PYTHON benchmarks/worker_llama.py MODEL THREADS CONTEXT SEQUENCES

Runs in an environment of its own that has llama-cpp-python and nothing of loqal. Commands and answers as in
worker_loqal.py. What is timed is ``llama_decode`` up to the logits being there: the high-level class of the package
would add its own copying and cost the engine 10 to 15 percent.
"""

from __future__ import annotations

import ctypes
import json
import random
import sys
import time
from typing import Any

import llama_cpp

_BATCH_TOKENS = 512


@llama_cpp.llama_log_callback
def _silent(level: int, text: bytes, user_data: ctypes.c_void_p) -> None:
    """Takes llama.cpp's log, which would go to stderr."""


class Engine:
    """One model with a context per number of sequences; only the latest is kept."""

    def __init__(self, path: str, threads: int, context_len: int) -> None:
        llama_cpp.llama_backend_init()
        self._threads, self._context_len = threads, context_len
        self._model = llama_cpp.llama_model_load_from_file(path.encode(), llama_cpp.llama_model_default_params())
        if not self._model:
            sys.exit(f"llama.cpp cannot open {path}")
        vocab = llama_cpp.llama_model_get_vocab(self._model)
        self._vocab_len = llama_cpp.llama_vocab_n_tokens(vocab)
        self._context: Any = None
        self._num_sequences = 0
        self._batch = llama_cpp.llama_batch_init(_BATCH_TOKENS, 0, 1)
        drawn = random.Random(0)
        self._token_ids = [drawn.randrange(self._vocab_len) for _ in range(_BATCH_TOKENS)]

    def prefill(self, num_tokens: int) -> float:
        """Seconds to read a prompt of one sequence, with the logits of its last token."""
        self._clear(1)
        started = time.perf_counter()
        self._read(0, num_tokens)
        return time.perf_counter() - started

    def decode(self, num_steps: int, context: int, batch: int) -> float:
        """Seconds for some steps of one token for every sequence."""
        self._clear(batch)
        for sequence in range(batch if context else 0):
            self._read(sequence, context)
        started = time.perf_counter()
        for step in range(num_steps):
            for sequence in range(batch):
                self._put(sequence, self._token_ids[0], context + step, sequence, wants_logits=True)
            self._decode(batch)
        return time.perf_counter() - started

    def _read(self, sequence: int, num_tokens: int) -> None:
        for start in range(0, num_tokens, _BATCH_TOKENS):
            count = min(_BATCH_TOKENS, num_tokens - start)
            for index in range(count):
                is_last = start + index + 1 == num_tokens
                self._put(index, self._token_ids[index], start + index, sequence, wants_logits=is_last)
            self._decode(count)

    def _put(self, index: int, token_id: int, position: int, sequence: int, *, wants_logits: bool) -> None:
        batch = self._batch
        batch.token[index], batch.pos[index] = token_id, position
        batch.n_seq_id[index], batch.seq_id[index][0] = 1, sequence
        batch.logits[index] = wants_logits

    def _decode(self, num_tokens: int) -> None:
        self._batch.n_tokens = num_tokens
        if llama_cpp.llama_decode(self._context, self._batch) != 0:
            sys.exit("llama_decode failed")
        llama_cpp.llama_synchronize(self._context)

    def _clear(self, num_sequences: int) -> None:
        """An empty context for so many sequences, its buffers used once so that no page is new."""
        if num_sequences != self._num_sequences:
            if self._context is not None:
                llama_cpp.llama_free(self._context)
            params = llama_cpp.llama_context_default_params()
            params.n_ctx = self._context_len * num_sequences
            params.n_batch = params.n_ubatch = _BATCH_TOKENS
            params.n_seq_max = num_sequences
            params.n_threads = params.n_threads_batch = self._threads
            params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
            params.type_k = params.type_v = llama_cpp.GGML_TYPE_F16
            params.no_perf = True
            self._context = llama_cpp.llama_init_from_model(self._model, params)
            if not self._context:
                sys.exit("llama.cpp cannot make a context")
            self._num_sequences = num_sequences
            self._read(0, min(_BATCH_TOKENS, self._context_len))
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)


def main() -> None:
    """Serve commands until the input ends."""
    llama_cpp.llama_log_set(_silent, ctypes.c_void_p(0))
    engine = Engine(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    build = llama_cpp.llama_print_system_info().decode().strip()
    version = f"llama-cpp-python {llama_cpp.__version__}"
    print(json.dumps({"engine": "llama.cpp", "build": f"{version}; flash attention, F16 KV; {build}"}), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        if "prefill" in command:
            seconds = engine.prefill(command["prefill"])
        else:
            seconds = engine.decode(command["decode"], command["context"], command["batch"])
        print(json.dumps({"seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
