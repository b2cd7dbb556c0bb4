"""Single operations of the native kernels: time, bytes and arithmetic, each beside what the machine can do.

    python benchmarks/operations.py Q4_K Q6_K

A matrix with few rows of activations is read from memory, larger than any cache; with many rows it is arithmetic.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import record

from loqal import formats
from loqal.formats.tensor import Tensor
from loqal.model.sizes import SIZES
from loqal.ops.backends.cpu import CpuOps
from loqal.ops.interface import PAGE_TOKENS, FloatArray, Rotary, StepBatch
from loqal.ops.records import AttentionMixer, DeltaMixer, DeltaWeights, DenseMlp, Experts

FORMATS = ("Q4_K", "Q6_K", "Q8_0", "Q5_K", "Q3_K", "Q2_K", "Q4_0", "IQ4_XS", "IQ3_S", "BF16")
_INPUTS = 2048
_OUTPUTS = {1: 131072, 4: 131072, 8: 131072, 16: 131072, 64: 8192, 512: 8192}  # by rows of activations
_TIMES = 5
_READ_BYTES = 1 << 29
_MODEL, _MIXTURE = SIZES["0.8B"], SIZES["35B-A3B"]
_PACKED_SHAPE = 8192, 8192


@dataclass(frozen=True)
class Figure:
    """One operation; shares are of the yardsticks measured just before it."""

    operation: str
    case: str
    ms: float
    gb_per_s: float
    gops: float
    share_of_read_bandwidth: float
    share_of_int8_peak: float | None  # None for float weights


def median_s(work: Callable[[], object]) -> float:
    """Seconds of the median of some calls after a first one."""
    work()
    taken = []
    for _ in range(_TIMES):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


class Suite:
    """The operations on one backend."""

    def __init__(self, ops: CpuOps) -> None:
        self._ops = ops
        self._rng = np.random.default_rng(0)

    def figures(self, formats: Sequence[str]) -> Iterator[Figure]:
        """Measure one after the other."""
        for name in formats:
            yield self._packing(name)
            yield from self._products(name)
            yield self._mlp(name, 512)
        if "Q4_K" in formats:
            yield from self._experts("Q4_K")
        for num_tokens in (1, 512):
            yield self._delta(num_tokens)
        for context in (4096, 16384):
            yield self._attention(context)

    def _weight(self, name: str, *shape: int) -> Any:
        return self._ops.pack_weight(
            Tensor("weight", name, shape, formats.random_blocks(name, shape, self._rng), "random")
        )

    def _packing(self, name: str) -> Figure:
        """Counts the bytes that are written, to memory that is new each time."""
        tensor = Tensor("weight", name, _PACKED_SHAPE, formats.random_blocks(name, _PACKED_SHAPE, self._rng), "random")
        case = f"{name} {'x'.join(map(str, _PACKED_SHAPE))}"
        num_bytes = self._ops.weight_bytes(name, _PACKED_SHAPE)
        return self._figure("pack_weight", case, functools.partial(self._ops.pack_weight, tensor), num_bytes, 0, True)

    def _mlp(self, name: str, rows: int) -> Figure:
        width, inner = _MODEL.width, _MODEL.ffn_width or 0
        weights = [self._weight(name, inner, width), self._weight(name, inner, width), self._weight(name, width, inner)]
        h, x = self._random(rows, width), self._random(rows, width)
        num_bytes = sum(self._ops.weight_bytes_of(weight) for weight in weights)
        work = functools.partial(self._ops.gated_mlp, h, x, DenseMlp(*weights))
        case = f"0.8B, {name}, {rows} rows"
        return self._figure(
            "gated_mlp", case, work, num_bytes, 3 * rows * width * inner, formats.FORMATS[name].is_float
        )

    def _experts(self, name: str) -> Iterator[Figure]:
        """One layer. Every call has other inputs, so that other experts are read."""
        width, experts = _MIXTURE.width, _MIXTURE.experts
        assert experts is not None
        count, inner, shared = experts.num_experts, experts.expert_width, experts.shared_width
        weights = [
            self._weight("F32", count, width),
            *(self._weight(name, count, *shape) for shape in ((inner, width), (inner, width), (width, inner))),
            self._weight("F32", 1, width),
            *(self._weight(name, *shape) for shape in ((shared, width), (shared, width), (width, shared))),
        ]
        for rows in (1, 8, 64, 512):
            h, inputs = self._random(rows, width), itertools.cycle([self._random(rows, width) for _ in range(8)])

            def work(h: FloatArray = h, inputs: Iterator[FloatArray] = inputs) -> None:
                self._ops.routed_experts(h, next(inputs), Experts(*weights, experts.num_active))

            before = self._ops.work_done().weight_bytes
            work()
            num_bytes = self._ops.work_done().weight_bytes - before
            products = rows * width * (3 * (experts.num_active * inner + shared) + count)
            yield self._figure("routed_experts", f"35B-A3B, {name}, {rows} tokens", work, num_bytes, products, False)

    def _products(self, name: str) -> Iterator[Figure]:
        weights = {}
        for outputs in sorted(set(_OUTPUTS.values())):
            weights[outputs] = self._weight(name, outputs, _INPUTS)
        for rows, outputs in _OUTPUTS.items():
            x, weight = self._random(rows, _INPUTS), weights[outputs]
            before = self._ops.work_done().weight_bytes
            self._ops.linear(x, (weight,))
            num_bytes = self._ops.work_done().weight_bytes - before
            case = f"{name} {outputs}x{_INPUTS}, {rows} rows"
            is_float = formats.FORMATS[name].is_float
            products = rows * outputs * _INPUTS
            work = functools.partial(self._ops.linear, x, (weight,))
            yield self._figure("linear", case, work, num_bytes, products, is_float)

    def _delta(self, num_tokens: int) -> Figure:
        shape = _MODEL.delta_shape
        key_width, value_width = shape.num_key_heads * shape.key_dim, shape.num_value_heads * shape.value_dim
        channels = 2 * key_width + value_width
        # As many layers as a model has, so that their states do not stay in the caches.
        layers = [self._ops.new_slots(1, shape) for _ in range(_MODEL.layers.count("delta"))]
        heads = shape.num_value_heads
        weights = DeltaWeights(
            conv=self._random(4, channels),
            a=np.full(heads, -1, np.float32),
            dt_bias=np.ones(heads, np.float32),
            norm=np.ones(shape.value_dim, np.float32),
        )
        inputs = [self._random(num_tokens, width) for width in (channels, value_width, heads, heads)]
        mixer = DeltaMixer((None, None, None, None), weights, None, shape)
        batch = _batch(0, num_tokens)

        def work() -> None:
            for slots in layers:
                self._ops.gated_delta(inputs, mixer, slots, batch, 1e-6)

        states = len(layers) * shape.num_value_heads * shape.key_dim * shape.value_dim
        case = f"0.8B, {len(layers)} layers, {num_tokens} tokens"
        return self._figure("gated_delta", case, work, 2 * 4 * states, 3 * states * num_tokens, True)

    def _attention(self, context: int) -> Figure:
        shape = _MODEL.attention_shape
        layers = [self._ops.new_pages(_num_pages(context + 1), shape) for _ in range(_MODEL.layers.count("attention"))]
        kv_width = shape.num_kv_heads * shape.head_dim
        x = self._random(PAGE_TOKENS, 2 * shape.num_heads * shape.head_dim)
        k, v = self._random(PAGE_TOKENS, kv_width), self._random(PAGE_TOKENS, kv_width)
        norm = np.ones(shape.head_dim, np.float32)
        mixer = AttentionMixer((None, None, None), norm, norm, None, shape)

        def attend(pages: Any, batch: StepBatch) -> None:
            num_tokens, half = batch.num_tokens, _MODEL.rope.rotary_dim // 2
            rotary = Rotary(np.ones((num_tokens, half), np.float32), np.zeros((num_tokens, half), np.float32))
            query_gate = x[:num_tokens]
            key, value = k[:num_tokens], v[:num_tokens]
            self._ops.gated_attention((query_gate, key, value), mixer, rotary, pages, batch, 1e-6)

        for pages in layers:
            attend(pages, _batch(0, PAGE_TOKENS))
            for page in range(1, _num_pages(context + 1)):
                self._ops.copy_page(pages, 0, page)
        batch = _batch(context, 1)

        def work() -> None:
            for pages in layers:
                attend(pages, batch)

        num_bytes = len(layers) * context * 2 * kv_width * 2
        products = len(layers) * context * 2 * shape.num_heads * shape.head_dim
        case = f"0.8B, {len(layers)} layers, 1 token at {context}"
        return self._figure("gated_attention", case, work, num_bytes, products, True)

    def _figure(
        self, operation: str, case: str, work: Callable[[], object], num_bytes: int, products: int, is_float: bool
    ) -> Figure:
        read, int8 = self._ops.read_gb_per_s(_READ_BYTES), self._ops.int8_gops()
        seconds = median_s(work)
        gb_per_s, gops = num_bytes / seconds * 1e-9, 2 * products / seconds * 1e-9
        share = None if is_float else gops / int8
        return Figure(operation, case, seconds * 1e3, gb_per_s, gops, gb_per_s / read, share)

    def _random(self, *shape: int) -> FloatArray:
        return self._rng.standard_normal(shape, np.float32)


def _num_pages(num_tokens: int) -> int:
    return -(-num_tokens // PAGE_TOKENS)


def _batch(past_len: int, num_tokens: int) -> StepBatch:
    """One sequence in slot 0 whose pages are in order."""
    return StepBatch(
        token_ids=np.zeros(num_tokens, np.int32),
        positions=np.zeros((num_tokens, 3), np.int32),
        starts=np.array([0, num_tokens], np.int32),
        past_len=np.array([past_len], np.int32),
        slots=np.zeros(1, np.int32),
        page_table=np.arange(_num_pages(past_len + num_tokens), dtype=np.int32)[None],
    )


def run(formats: Sequence[str] = FORMATS, *, threads: int | None = None, keep: record.Keep = "if quiet") -> None:
    """Measure, print a table as it grows, and save it."""
    ops = CpuOps(threads=threads)
    print(f"\noperations, {ops.name}\n")
    print(f"{'operation':16} {'case':34} {'ms':>9} {'GB/s':>7} {'of read':>8} {'GOPS':>7} {'of int8':>8}", flush=True)
    watch = record.OtherPrograms()
    figures = []
    for figure in Suite(ops).figures(formats):
        figures.append(figure)
        peak = "" if figure.share_of_int8_peak is None else f"{figure.share_of_int8_peak:.0%}"
        print(
            f"{figure.operation:16} {figure.case:34} {figure.ms:9.2f} {figure.gb_per_s:7.1f} "
            f"{figure.share_of_read_bandwidth:8.0%} {figure.gops:7.0f} {peak:>8}",
            flush=True,
        )
    result = {"isa": ops.isa, "threads": ops.threads, "figures": [asdict(figure) for figure in figures]}
    record.save("ops", f"{ops.isa}-{ops.threads}", result, others=watch.share(), keep=keep)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("formats", nargs="*", default=FORMATS, metavar="FORMAT", help=", ".join(FORMATS))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--save-anyway", action="store_true", help="keep the result even if the machine was busy")
    given = parser.parse_args()
    run(given.formats, threads=given.threads, keep="always" if given.save_anyway else "if quiet")


if __name__ == "__main__":
    main()
