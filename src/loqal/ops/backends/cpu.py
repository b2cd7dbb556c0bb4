"""The native backend: C++ kernels for this machine's instruction set. The only caller of the extension."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from loqal import formats
from loqal.errors import RequestError
from loqal.formats.tensor import Tensor
from loqal.ops import _kernels, packed_file, rope
from loqal.ops.fair_lock import FairLock
from loqal.ops.interface import (
    JOURNAL_ROWS,
    KV_BLOCK,
    PAGE_TOKENS,
    FloatArray,
    IntArray,
    RawArray,
    Rotary,
    StepBatch,
)
from loqal.ops.records import (
    AttentionMixer,
    AttentionShape,
    DeltaMixer,
    DeltaShape,
    DenseMlp,
    Experts,
    Layer,
    Norm,
    RopeConfig,
)
from loqal.ops.timing_interface import WorkDone

_PACKED = frozenset(_kernels.packed_formats())
"""Formats with a packed layout of their own. The others, those with codebooks, are decoded to int8 panels."""

_HUGE_PAGE = _kernels.HUGE_PAGE_BYTES


class CpuPages:
    """Keys in groups of 16 positions with positions in lanes, values by position; the kernels' own layout.

    ``arrays`` are views by page: keys, values and, with 8 bits, their scales.
    """

    def __init__(self, num_pages: int, shape: AttentionShape, kv_bits: int) -> None:
        values = num_pages * shape.num_kv_heads * PAGE_TOKENS * shape.head_dim
        num_bytes, scales = values * kv_bits // 8, values // KV_BLOCK if kv_bits == 8 else 0
        flat = (
            _lazy_zeros((num_bytes,), np.uint8),
            _lazy_zeros((num_bytes,), np.uint8),
            _lazy_zeros((scales,), np.uint16),
            _lazy_zeros((scales,), np.uint16),
        )
        self.arrays = tuple(array.reshape(num_pages, -1) for array in flat if array.size)
        self.native = _kernels.make_pages(kv_bits, num_pages, shape.num_kv_heads, shape.head_dim, *flat)


class CpuSlots:
    """Convolution tails and delta states."""

    def __init__(self, num_slots: int, shape: DeltaShape, num_journals: int) -> None:
        channels = 2 * shape.num_key_heads * shape.key_dim + shape.num_value_heads * shape.value_dim
        self.tails = _lazy_zeros((num_slots, shape.conv_width - 1, channels), np.float32)
        tile = _kernels.STATE_TILE
        tiles = (num_slots, shape.num_value_heads, shape.value_dim // tile * shape.key_dim, tile)
        self.states = _lazy_zeros(tiles, np.float32, huge_pages=True)  # value columns in tiles
        row_floats = _kernels.journal_row_floats(shape.num_key_heads, shape.num_value_heads)
        journals = _lazy_zeros((num_journals, JOURNAL_ROWS, row_floats), np.float32)
        self.native = _kernels.make_slots(self.tails, self.states, journals)


def available_isas() -> list[str]:
    """Instruction sets this machine can run, best first."""
    return list(_kernels.isas())


_Scalar = TypeVar("_Scalar", np.uint8, np.uint16, np.float32)


def _lazy_zeros(shape: tuple[int, ...], dtype: type[_Scalar], *, huge_pages: bool = False) -> npt.NDArray[_Scalar]:
    """Zeros that take memory only where they are written: room for the whole context costs nothing at first."""
    count = int(np.prod(shape))
    size = max(1, count * np.dtype(dtype).itemsize) + (_HUGE_PAGE if huge_pages else 0)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
    room = mmap.mmap(-1, size, flags=flags)
    offset = 0
    if huge_pages:  # whole rows should lie in whole pages, so that they can be given back
        offset = -np.frombuffer(room, np.uint8).ctypes.data % _HUGE_PAGE
        if hasattr(mmap, "MADV_HUGEPAGE"):
            room.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(room, dtype, count, offset).reshape(shape)


def _give_back(array: RawArray, row: int) -> None:
    """Drop the memory behind one row of ``_lazy_zeros``; it reads as zeros when it is touched again."""
    whole: Any = array
    while isinstance(whole, np.ndarray):
        whole = whole.base
    memory = whole if isinstance(whole, mmap.mmap) else whole.obj
    start, size = array[row].ctypes.data - np.frombuffer(memory, np.uint8).ctypes.data, array[row].nbytes
    first, end = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, (start + size) // mmap.PAGESIZE * mmap.PAGESIZE
    if end > first and hasattr(mmap, "MADV_DONTNEED"):
        memory.madvise(mmap.MADV_DONTNEED, first, end - first)


def _parts(norm: Norm | None) -> tuple[FloatArray | None, float]:
    return (None, 0.0) if norm is None else (norm.weight, norm.eps)


class CpuOps:
    """Ops over the native kernels.

    Args:
        isa: an instruction set of ``available_isas``; the best one when None.
        threads: size of the thread pool; the CPUs this process may use when None.
        keep_packed: where packed weights are kept, and the files they come from; None keeps none.
    """

    state_layout = "cpu 1"  # the same for all instruction sets; see KvStore in cpp/kernels/tasks.h

    def __init__(
        self,
        isa: str | None = None,
        threads: int | None = None,
        keep_packed: tuple[Path, Sequence[Path]] | None = None,
    ) -> None:
        isas = available_isas()
        if isa is not None and isa not in isas:
            raise RequestError(
                f"The instruction set {isa!r} cannot be used.",
                f"This machine runs {', '.join(isas)}.",
                "Leave the setting out, or pick one of these.",
            )
        self._cpu = _kernels.make_cpu(isa or isas[0], threads or _kernels.usable_cpus())
        self.isa, self.threads = self._cpu.isa, self._cpu.threads
        self.usable_isas = tuple(isas)
        self.name = f"cpu ({self.isa}, {self.threads} threads)"
        self._lock = FairLock()
        self._step: tuple[StepBatch, _kernels.Step] | None = None
        self._keep_packed = keep_packed
        self._kept = packed_file.open_packed(*keep_packed) if keep_packed else None
        self._fresh: dict[str, _kernels.Weight] = {}  # to be kept once all are packed

    # Constructors -----------------------------------------------------------------------------------------------

    def pack_weight(self, tensor: Tensor, *, float_inputs: bool = False) -> _kernels.Weight:
        """See Ops. Packing copies; the tensor's own bytes are not needed afterwards."""
        key = f"{tensor.name} {tensor.format} {tensor.shape} {float_inputs}"
        weight = self._kept.get(key) if self._kept else None
        if weight is None:
            weight = self._pack(tensor, float_inputs)
            if self._keep_packed:
                self._fresh[key] = weight
        return weight

    def _pack(self, tensor: Tensor, float_inputs: bool) -> _kernels.Weight:
        *experts, rows, inputs = tensor.shape
        if float_inputs and not formats.FORMATS[tensor.format].is_float:
            values = formats.decode(tensor.format, tensor.data, tensor.shape)
            tensor = replace(tensor, format="F32", data=values.reshape(-1).view(np.uint8))
        num_experts = experts[0] if experts else 1
        if tensor.format in _PACKED:
            return self._cpu.pack(tensor.format, tensor.data, num_experts, rows, inputs)
        vectors, signs = formats.codebook(tensor.format)
        return self._cpu.pack_codebook(tensor.format, tensor.data, vectors, signs, num_experts, rows, inputs)

    def weight_bytes(self, format: str, shape: tuple[int, ...], *, float_inputs: bool = False) -> int:
        """See Ops."""
        *experts, rows, inputs = shape
        is_float = formats.FORMATS[format].is_float
        layout = "F32" if float_inputs and not is_float else format if format in _PACKED else "I8"
        return _kernels.packed_bytes(layout, experts[0] if experts else 1, rows, inputs)

    def put_layers(self, layers: Sequence[Layer]) -> _kernels.Layers:
        """See Ops."""
        out = _kernels.Layers()
        for layer in layers:
            mixer, mlp, norm, eps = layer.mixer, layer.mlp, layer.input_norm.weight, layer.input_norm.eps
            if isinstance(mixer, DeltaMixer):
                small = mixer.small
                parts = small.conv, small.a, small.dt_bias, small.norm
                out.add_delta(norm, eps, mixer.inputs, mixer.out, *parts)
            else:
                out.add_attention(
                    norm, eps, mixer.inputs, mixer.out, mixer.query_norm, mixer.key_norm, mixer.shape.num_heads
                )
            norm, eps = layer.post_norm.weight, layer.post_norm.eps
            if isinstance(mlp, Experts):
                own, shared = (mlp.gate, mlp.up, mlp.down), (mlp.shared_gate, mlp.shared_up, mlp.shared_down)
                out.add_experts(norm, eps, mlp.router, *own, mlp.shared_router, *shared, mlp.num_active)
            else:
                out.add_mlp(norm, eps, mlp.gate, mlp.up, mlp.down)
        return out

    def finish_loading(self) -> None:
        """See Ops. Writes the packed file when weights had to be packed that it did not hold."""
        if self._keep_packed and self._fresh and self._kept is None:
            packed_file.write_packed(*self._keep_packed, self._fresh)
        self._fresh.clear()

    def put_vector(self, tensor: Tensor) -> FloatArray:
        """See Ops."""
        return formats.decode(tensor.format, tensor.data, tensor.shape)

    def new_pages(self, num_pages: int, shape: AttentionShape, kv_bits: int = 16) -> CpuPages:
        """See Ops."""
        return CpuPages(num_pages, shape, kv_bits)

    def new_slots(self, num_slots: int, shape: DeltaShape, num_journals: int = 0) -> CpuSlots:
        """See Ops."""
        return CpuSlots(num_slots, shape, num_journals)

    def commit(self, slots: CpuSlots, slot: int, journal: int, count: int) -> None:
        """See Ops. A run without rows of its own applies what is pending."""
        num_heads, channels = slots.states.shape[1], slots.tails.shape[2]

        def none(*shape: int) -> FloatArray:
            return np.zeros(shape, np.float32)

        one = np.array([0, journal, count, slot], np.int32)
        nothing, zero = np.empty(0, np.int32), one[:1]
        step = _kernels.make_step(
            np.zeros(2, np.int32), zero, one[3:], zero[None], nothing, nothing, one[1:2], one[2:3], zero
        )
        self._cpu.gated_delta(
            none(0, channels),
            none(0, num_heads * _kernels.DELTA_HEAD_DIM),
            none(0, num_heads),
            none(0, num_heads),
            none(_kernels.CONV_WIDTH, channels),
            none(num_heads),
            none(num_heads),
            none(_kernels.DELTA_HEAD_DIM),
            slots.native,
            step,
            0.0,
        )

    def clear_slot(self, slots: CpuSlots, slot: int) -> None:
        """See Ops."""
        slots.tails[slot] = 0
        slots.states[slot] = 0

    def copy_slot(self, slots: CpuSlots, source: int, target: int) -> None:
        """See Ops."""
        slots.tails[target] = slots.tails[source]
        slots.states[target] = slots.states[source]

    def copy_page(self, pages: CpuPages, source: int, target: int) -> None:
        """See Ops."""
        for array in pages.arrays:
            array[target] = array[source]

    def discard_slot(self, slots: CpuSlots, slot: int) -> None:
        """See Ops."""
        for array in (slots.tails, slots.states):
            _give_back(array, slot)

    def discard_page(self, pages: CpuPages, page: int) -> None:
        """See Ops."""
        for array in pages.arrays:
            _give_back(array, page)

    def slot_arrays(self, slots: CpuSlots, slot: int) -> tuple[RawArray, ...]:
        """See Ops."""
        return slots.tails[slot], slots.states[slot]

    def page_arrays(self, pages: CpuPages, page: int) -> tuple[RawArray, ...]:
        """See Ops."""
        return tuple(array[page] for array in pages.arrays)

    # The network ------------------------------------------------------------------------------------------------

    def embed(self, table: _kernels.Weight, token_ids: IntArray) -> FloatArray:
        """See Ops."""
        return self._cpu.embed(table, token_ids)

    def rms_norm(self, x: FloatArray, weight: FloatArray, eps: float) -> FloatArray:
        """See Ops."""
        return self._cpu.rms_norm(x, weight, eps)

    def linear(
        self, x: FloatArray, weights: Sequence[_kernels.Weight], norm: Norm | None = None
    ) -> tuple[FloatArray, ...]:
        """See Ops."""
        return self._cpu.linear(x, weights, *_parts(norm))

    def linear_add(self, h: FloatArray, x: FloatArray, weight: _kernels.Weight) -> FloatArray:
        """See Ops."""
        self._cpu.linear_add(h, x, weight)
        return h

    def rotary(self, positions: IntArray, config: RopeConfig) -> Rotary:
        """See Ops."""
        frequencies, axes, magnitude = rope.inverse_frequencies(config)
        return Rotary(*self._cpu.rotary(positions, frequencies, axes, magnitude))

    def gated_attention(
        self,
        inputs: Sequence[FloatArray],
        mixer: AttentionMixer,
        rotary: Rotary,
        pages: CpuPages,
        batch: StepBatch,
        eps: float,
    ) -> FloatArray:
        """See Ops."""
        query_gate, key, value = inputs
        return self._cpu.gated_attention(
            query_gate,
            key,
            value,
            mixer.query_norm,
            mixer.key_norm,
            rotary.cos,
            rotary.sin,
            pages.native,
            self._native_step(batch),
            mixer.shape.num_heads,
            eps,
        )

    def gated_delta(
        self, inputs: Sequence[FloatArray], mixer: DeltaMixer, slots: CpuSlots, batch: StepBatch, eps: float
    ) -> FloatArray:
        """See Ops. The kernels are written for the family's 128-wide heads."""
        (qkv, z, beta, alpha), small = inputs, mixer.small
        return self._cpu.gated_delta(
            qkv,
            z,
            beta,
            alpha,
            small.conv,
            small.a,
            small.dt_bias,
            small.norm,
            slots.native,
            self._native_step(batch),
            eps,
        )

    def gated_mlp(self, h: FloatArray, x: FloatArray, mlp: DenseMlp, norm: Norm | None = None) -> FloatArray:
        """See Ops."""
        self._cpu.gated_mlp(h, x, mlp.gate, mlp.up, mlp.down, *_parts(norm))
        return h

    def routed_experts(self, h: FloatArray, x: FloatArray, experts: Experts, norm: Norm | None = None) -> FloatArray:
        """See Ops. Rows are gathered by expert; an expert without rows is not read."""
        self._cpu.routed_experts(
            h,
            x,
            experts.router,
            experts.gate,
            experts.up,
            experts.down,
            experts.shared_router,
            experts.shared_gate,
            experts.shared_up,
            experts.shared_down,
            experts.num_active,
            *_parts(norm),
        )
        return h

    def run_layers(
        self,
        h: FloatArray,
        layers: _kernels.Layers,
        states: Sequence[CpuPages | CpuSlots],
        rotary: Rotary,
        batch: StepBatch,
    ) -> FloatArray:
        """See Ops. One call, because Python would come back to cold caches after every operation of every layer."""
        natives = [state.native for state in states]
        self._cpu.run_layers(h, layers, natives, rotary.cos, rotary.sin, self._native_step(batch))
        return h

    def unembed(self, x: FloatArray, head: _kernels.Weight) -> FloatArray:
        """See Ops."""
        (logits,) = self._cpu.linear(x, (head,))
        return logits

    def top_k(self, x: FloatArray, head: _kernels.Weight, k: int, excluded: IntArray) -> tuple[IntArray, FloatArray]:
        """See Ops."""
        return self._cpu.largest(x, head, k, excluded)

    def gather_rows(self, weight: _kernels.Weight, rows: IntArray) -> tuple[_kernels.Weight, IntArray]:
        """See Ops. Panels hold 16 rows."""
        panels = np.unique(rows // _kernels.PANEL_ROWS)
        packed = weight.packed().reshape(-(-weight.rows // _kernels.PANEL_ROWS), -1)
        if panels[-1] == len(panels) - 1:
            taken = packed[: len(panels)]
        else:
            taken = _lazy_zeros((len(panels), packed.shape[1]), np.uint8)  # aligned as kernels expect
            np.take(packed, panels, axis=0, out=taken)
        ids = (panels[:, None] * _kernels.PANEL_ROWS + np.arange(_kernels.PANEL_ROWS)).astype(np.int32).reshape(-1)
        ids = ids[ids < weight.rows]
        return _kernels.adopt(weight.layout, taken.reshape(-1), 1, len(ids), weight.inputs), ids

    def concat(self, left: FloatArray, right: FloatArray) -> FloatArray:
        """See Ops."""
        return np.concatenate((left, right), axis=1)

    def select(self, x: FloatArray, rows: IntArray) -> FloatArray:
        """See Ops."""
        return x[rows]

    def put_rows(self, x: FloatArray, rows: IntArray, values: FloatArray) -> FloatArray:
        """See Ops."""
        x[rows] = values
        return x

    # The vision tower -------------------------------------------------------------------------------------------

    def layer_norm(self, x: FloatArray, weight: FloatArray, bias: FloatArray, eps: float) -> FloatArray:
        """See Ops."""
        return self._cpu.layer_norm(x, weight, bias, eps)

    def add_bias(self, x: FloatArray, bias: FloatArray) -> FloatArray:
        """See Ops."""
        self._cpu.add_bias(x, bias)
        return x

    def gelu(self, x: FloatArray, *, exact: bool) -> FloatArray:
        """See Ops."""
        self._cpu.gelu(x, exact)
        return x

    def vision_rotary(self, places: IntArray, head_dim: int, theta: float) -> Rotary:
        """See Ops."""
        inverse, axis = rope.vision_frequencies(head_dim, theta)
        three = np.concatenate([places, np.zeros((len(places), 1), np.int32)], axis=1)
        return Rotary(*self._cpu.rotary(three, inverse, axis, 1.0))

    def vision_heads(self, qkv: FloatArray, rotary: Rotary, num_heads: int) -> _kernels.VisionPack:
        """See Ops."""
        return self._cpu.vision_heads(qkv, rotary.cos, rotary.sin, num_heads)

    def vision_attention(self, heads: _kernels.VisionPack, start: int, end: int) -> FloatArray:
        """See Ops."""
        return self._cpu.vision_attention(heads, start, end)

    # Sampling and steps -----------------------------------------------------------------------------------------

    def candidates(self, logits: FloatArray, k: int) -> tuple[IntArray, FloatArray, float]:
        """See Ops."""
        return self._cpu.candidates(logits, k)

    def exclusive(self) -> FairLock:
        """See Ops."""
        return self._lock

    # Measuring --------------------------------------------------------------------------------------------------

    def weight_bytes_of(self, weight: _kernels.Weight) -> int:
        """See MeasuredOps."""
        return weight.num_bytes

    def read_gb_per_s(self, num_bytes: int) -> float:
        """See MeasuredOps."""
        return self._cpu.read_gb_per_s(num_bytes)

    def int8_gops(self) -> float:
        """See MeasuredOps."""
        return self._cpu.int8_gops()

    def float_gflops(self) -> float:
        """See MeasuredOps."""
        return self._cpu.float_gflops()

    def work_done(self) -> WorkDone:
        """See MeasuredOps."""
        return WorkDone(self._cpu.busy_s, self._cpu.weight_bytes)

    def _native_step(self, batch: StepBatch) -> _kernels.Step:
        """The batch as the kernels read it, checked once and kept for the layers of the same step."""
        if self._step is None or self._step[0] is not batch:
            step = _kernels.make_step(
                batch.starts,
                batch.past_len,
                batch.slots,
                batch.page_table,
                batch.capture_rows,
                batch.capture_slots,
                batch.journals,
                batch.pending,
                batch.defer_state,
            )
            self._step = (batch, step)
        return self._step[1]
