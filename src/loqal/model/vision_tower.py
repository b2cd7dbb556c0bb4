"""The vision tower: patches of an image, or of a pair of video frames, to embedding rows.

Patches see all others of their own picture and nothing else; so a video is encoded pair by pair. Work is done in slices
of rows, each small enough that a step of the decoder in between does not have to wait long.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Protocol

import numpy as np

from loqal.formats.tensor import Tensor
from loqal.model.config import VisionConfig
from loqal.ops.interface import FloatArray, IntArray, Ops, Rotary, Weight

_THETA = 10000.0
_SLICE_WORK = 3e9  # multiplications of a slice: some tens of milliseconds on two cores
_LEAST_ROWS = 192
_LANES, _FLOAT_BYTES = 16, 4
_SLICE_BYTES = 64 << 20  # of slices, more than was measured (45 MB)


class PatchRows(Protocol):
    """Patches that are read on demand."""

    def __len__(self) -> int:
        """N, how many there are."""
        ...

    def read(self, start: int, end: int) -> FloatArray:
        """Some of them, normalised: -> [end - start, values]."""
        ...


class _Linear:
    """A linear weight with a bias."""

    def __init__(self, ops: Ops, tensors: Mapping[str, Tensor], name: str) -> None:
        self._ops = ops
        tensor = tensors[name + ".weight"]
        self.work = math.prod(tensor.shape)
        self._weight: Weight = ops.pack_weight(tensor)
        self._bias = ops.put_vector(tensors[name + ".bias"])

    def __call__(self, x: FloatArray) -> FloatArray:
        """x W^T + bias: [N K] -> [N O]."""
        (y,) = self._ops.linear(x, (self._weight,))
        return self._ops.add_bias(y, self._bias)

    def add_to(self, h: FloatArray, x: FloatArray) -> None:
        """h + x W^T + bias, in place on h."""
        self._ops.add_bias(self._ops.linear_add(h, x, self._weight), self._bias)


class _Norm:
    """A layer norm."""

    def __init__(self, ops: Ops, tensors: Mapping[str, Tensor], name: str, eps: float) -> None:
        self._ops, self._eps = ops, eps
        self._weight, self._bias = ops.put_vector(tensors[name + ".weight"]), ops.put_vector(tensors[name + ".bias"])

    def __call__(self, x: FloatArray) -> FloatArray:
        return self._ops.layer_norm(x, self._weight, self._bias, self._eps)


class _Layer:
    """Attention and feed-forward network, each added to the residual in place."""

    def __init__(self, config: VisionConfig, ops: Ops, tensors: Mapping[str, Tensor], prefix: str) -> None:
        self._ops, self._config = ops, config
        self._norm1, self._norm2 = (_Norm(ops, tensors, prefix + name, config.norm_eps) for name in ("norm1", "norm2"))
        self._qkv, self._proj, self._fc1, self._fc2 = (
            _Linear(ops, tensors, prefix + name) for name in ("qkv", "proj", "fc1", "fc2")
        )

    def __call__(self, h: FloatArray, qkv: FloatArray, rotary: Rotary) -> None:
        """[N D], in place; ``qkv`` [N 3D] is room that all layers share."""
        ops, count, width = self._ops, *h.shape
        for start, end in _slices(count, self._qkv.work):
            with ops.exclusive():
                qkv[start:end] = self._qkv(self._norm1(h[start:end]))
        with ops.exclusive():
            heads = ops.vision_heads(qkv, rotary, self._config.num_heads)
        for start, end in _slices(count, 2 * count * width + self._proj.work):
            with ops.exclusive():
                self._proj.add_to(h[start:end], ops.vision_attention(heads, start, end))
        for start, end in _slices(count, self._fc1.work + self._fc2.work):
            with ops.exclusive():
                inner = ops.gelu(self._fc1(self._norm2(h[start:end])), exact=False)
                self._fc2.add_to(h[start:end], inner)


class VisionTower:
    """The tower of one checkpoint.

    Args:
        tensors: canonical names (model/tensor_names.py) to tensors.
    """

    def __init__(self, config: VisionConfig, ops: Ops, tensors: Mapping[str, Tensor]) -> None:
        self.config, self._ops = config, ops
        self._patch_embed = _Linear(ops, tensors, "vision.patch_embed")
        self._positions = ops.put_vector(tensors["vision.position_embed"])
        self._layers = [_Layer(config, ops, tensors, f"vision.layers.{index}.") for index in range(config.depth)]
        self._merge_norm = _Norm(ops, tensors, "vision.merger.norm", config.norm_eps)
        self._fc1, self._fc2 = _Linear(ops, tensors, "vision.merger.fc1"), _Linear(ops, tensors, "vision.merger.fc2")

    def encode(self, patches: PatchRows, rows: int, columns: int) -> FloatArray:
        """The rows of one image of rows x columns patches, in merge block order: -> [rows*columns/merge^2, D]."""
        config, ops, count = self.config, self._ops, len(patches)
        assert count == rows * columns
        places = block_places(rows, columns, config.merge_size)
        h = np.empty((count, config.width), np.float32)
        for start, end in _slices(count, self._patch_embed.work):
            with ops.exclusive():
                h[start:end] = self._patch_embed(patches.read(start, end))
            h[start:end] += interpolated(self._positions, places[start:end], rows, columns)
        rotary = ops.vision_rotary(places, config.width // config.num_heads, _THETA)
        qkv = np.empty((count, 3 * config.width), np.float32)
        for layer in self._layers:
            layer(h, qkv, rotary)
        del qkv
        return self._merged(h)

    def _merged(self, h: FloatArray) -> FloatArray:
        group = self.config.merge_size**2
        out = np.empty((len(h) // group, self.config.out_width), np.float32)
        for start, end in _slices(len(out), self._fc1.work + self._fc2.work):
            with self._ops.exclusive():
                normed = self._merge_norm(h[start * group : end * group])
                inner = self._ops.gelu(self._fc1(normed.reshape(end - start, -1)), exact=True)
                out[start:end] = self._fc2(inner)
        return out


def encoding_bytes(config: VisionConfig, num_patches: int) -> int:
    """Peak memory in bytes of encoding an image of so many patches, without weights and the patches themselves.

    The residual, queries with keys and values of all patches, the same laid out by heads, angles, and the result; then
    the arrays of a slice, and those of other slices that are kept for the next.
    """
    head_dim = config.width // config.num_heads
    laid_out = 2 * head_dim + -(-head_dim // _LANES) * _LANES  # values of a head fill whole lanes
    outputs = config.out_width / config.merge_size**2
    per_patch = 4 * config.width + config.num_heads * laid_out + head_dim + outputs
    return int(_FLOAT_BYTES * num_patches * per_patch) + _SLICE_BYTES


def block_places(rows: int, columns: int, merge_size: int) -> IntArray:
    """The (row, column) of every patch in the order of patches: by merge blocks, inside a block by rows: -> [N 2]."""
    row, column = np.indices((rows, columns), np.int32)
    pair = np.stack([row, column], axis=-1)
    blocks = pair.reshape(rows // merge_size, merge_size, columns // merge_size, merge_size, 2)
    return np.ascontiguousarray(blocks.transpose(0, 2, 1, 3, 4)).reshape(-1, 2)


def interpolated(table: FloatArray, places: IntArray, rows: int, columns: int) -> FloatArray:
    """The learned positions [side^2 D] stretched over a grid, corners on corners: -> [N D].

    Every operation is one float32 operation, so that all machines agree.
    """
    side = math.isqrt(len(table))
    low, share = zip(*(_between(places[:, axis], size, side) for axis, size in enumerate((rows, columns))), strict=True)
    out = np.zeros((len(places), table.shape[1]), np.float32)
    for down in range(2):
        for right in range(2):
            at = np.minimum(low[0] + down, side - 1) * side + np.minimum(low[1] + right, side - 1)
            weight = (share[0] if down else 1 - share[0]) * (share[1] if right else 1 - share[1])
            out += table[at] * weight[:, None]
    return out


def _between(index: IntArray, size: int, side: int) -> tuple[IntArray, FloatArray]:
    """The table entry below a coordinate, and the fraction of the way to the next."""
    source = index.astype(np.float32) * np.float32(side - 1) / np.float32(max(size - 1, 1))
    low = np.floor(source)
    return low.astype(np.int32), (source - low).astype(np.float32)


def _slices(count: int, work_per_row: int) -> Iterator[tuple[int, int]]:
    """Cuts of rows with about one slice's work each."""
    step = max(_LEAST_ROWS, int(_SLICE_WORK / work_per_row) // _LEAST_ROWS * _LEAST_ROWS)
    return ((start, min(start + step, count)) for start in range(0, count, step))
