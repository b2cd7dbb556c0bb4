"""What the engine adds to the network: turns that are remembered, users beside each other, guesses.

    python benchmarks/engine.py MODEL.gguf [--only cache,disk,streams,gap,rows] [--context 16384]

Every line says what was measured and what it should be. Token ids are arbitrary: how long a step takes does not depend
on them.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import loqal
from loqal.engine.event_stream import EventStream
from loqal.engine.sequence import Sequence
from loqal.engine.step_batch import Run, build
from loqal.performance.timed_model import TimedModel
from loqal.types.reply import TokenEvent
from loqal.types.sampling import SamplingParams

_WRITERS = 2  # replies that run when a long prompt arrives
_IDS = np.random.default_rng(1).integers(1000, 200_000, 100_000).tolist()


def params(max_tokens: int, **more: object) -> SamplingParams:
    """Greedy, without an end."""
    values: dict[str, object] = {"max_tokens": max_tokens, "temperature": 0.0, "seed": 1, "ignore_eos": True}
    values |= {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "frequency_penalty": 0.0}
    values |= {"presence_penalty": 0.0, "repetition_penalty": 1.0} | more
    return SamplingParams(**values)  # type: ignore[arg-type]


def first_token_s(model: loqal.Runtime, prompt: list[int]) -> tuple[float, int]:
    """Seconds to the first token, and how many tokens came from the cache."""
    started = time.perf_counter()
    with model.stream_generate(prompt, params(2)) as stream:
        next(stream)
        seconds = time.perf_counter() - started
    return seconds, stream.reply.usage.cached_tokens


def cache(path: Path, context: int) -> None:
    """A second turn over a long conversation, in memory and after a restart."""
    turn = _IDS[context : context + 40]
    with tempfile.TemporaryDirectory() as folder:
        with loqal.load(path, context_len=context + 1024, cache_dir=folder) as model:
            cold, _ = first_token_s(model, _IDS[:context])
            warm, cached = first_token_s(model, _IDS[:context] + turn)
            print(
                f"cold {context} tokens: {cold:.2f} s; second turn: {warm:.3f} s = {warm / cold:.2%} ({cached} cached)"
            )
        gc.collect()
        with loqal.load(path, context_len=context + 1024, cache_dir=folder) as model:
            restored, cached = first_token_s(model, _IDS[:context] + turn)
            print(f"after a restart: {restored:.3f} s = {restored / cold:.2%} of cold ({cached} cached)")


def streams(path: Path, context: int) -> None:
    """Eight streams beside each other against one."""
    del context
    with loqal.load(path, context_len=4096, drafts="off", max_sequences=8) as model:
        alone = _rate(model, 1)
        for num in (1, 2, 4, 8):
            rate = alone if num == 1 else _rate(model, num)
            print(f"{num} streams: {rate:.1f} tokens/s in all, {rate / alone:.2f} times one")


def _rate(model: loqal.Runtime, num: int, num_tokens: int = 64) -> float:
    replies = [model.stream_generate(_IDS[500 * i : 500 * i + 16], params(num_tokens)) for i in range(num)]
    for reply in replies:
        next(reply)
    started = time.perf_counter()
    total = sum(sum(len(delta.token_ids) for delta in reply) for reply in replies)
    return total / (time.perf_counter() - started)


def gap(path: Path, context: int) -> None:
    """The longest pause between tokens of running replies while a long prompt arrives.

    Tokens are taken from the engine: the text of random ones is often half a character, which waits for the next.
    """
    with loqal.load(path, context_len=context + 1024, max_sequences=8) as model:
        sequences = [Sequence(_IDS[300 * i : 300 * i + 32], params(4000)) for i in range(_WRITERS)]
        writers = model._open_engine().submit_all(sequences)
        gaps: list[float] = []
        stop = threading.Event()

        def read(stream: EventStream[TokenEvent]) -> None:
            last = None
            for _ in stream:
                now = time.perf_counter()
                if last is not None:
                    gaps.append(now - last)
                last = now
                if stop.is_set():
                    break
            stream.close()

        readers = [threading.Thread(target=read, args=(stream,)) for stream in writers]
        for reader in readers:
            reader.start()
        time.sleep(3)
        before = max(gaps)
        gaps.clear()
        seconds, _ = first_token_s(model, _IDS[:context])
        found = sorted(gaps)
        stop.set()
        for reader in readers:
            reader.join()
        most, middle, late = (found[-1], statistics.median(found), found[int(len(found) * 0.99)])
        print(
            f"a prompt of {context} tokens took {seconds:.1f} s beside {_WRITERS} replies; their longest gap "
            f"{most * 1e3:.0f} ms (median {middle * 1e3:.0f}, 99 % {late * 1e3:.0f}; before {before * 1e3:.0f})"
        )


def rows(path: Path, context: int) -> None:
    """Steps of one sequence with more rows, written through and deferred, in turn."""
    del context
    model = TimedModel(path, context_len=2048, num_sequences=1, num_tokens=2048)
    store, decoder, ops = model._store, model._decoder, model.ops
    state = store.open()
    store.reserve(state, 1024)
    times: dict[int, list[float]] = {}
    for turn in range(40):
        for num in (1, 2, 3, 4, 8):
            state.length = 256
            ids = _IDS[turn * 8 : turn * 8 + num]
            positions = np.repeat(np.arange(256, 256 + num, dtype=np.int32)[:, None], 3, axis=1)
            if num > 1:
                store.defer(state)
            run = Run(state, ids, positions, list(range(num)), defer_state=num > 1)
            started = time.perf_counter()
            batch = build([run])
            with ops.exclusive():
                hidden = decoder.forward(batch, store)
            decoder.top_k(ops.select(hidden, batch.logit_rows), 20, np.empty(0, np.int32))
            times.setdefault(num, []).append(time.perf_counter() - started)
            state.pending = num if num > 1 else 0
    one = statistics.median(times[1])
    for num, found in times.items():
        print(f"{num} rows: {statistics.median(found) * 1e3:.1f} ms, {statistics.median(found) / one:.3f} of one")


_PARTS: dict[str, Callable[[Path, int], None]] = {"cache": cache, "streams": streams, "gap": gap, "rows": rows}


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("--only", default=",".join(_PARTS))
    parser.add_argument("--context", type=int, default=16384)
    parsed = parser.parse_args()
    for name in parsed.only.split(","):
        _PARTS[name](parsed.model, parsed.context)


if __name__ == "__main__":
    main()
