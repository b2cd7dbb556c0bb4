"""What cpp/bindings/module.cpp offers. Arrays are C-contiguous."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_F32 = npt.NDArray[np.float32]
_I32 = npt.NDArray[np.int32]
_I8 = npt.NDArray[np.int8]
_U8 = npt.NDArray[np.uint8]
_U16 = npt.NDArray[np.uint16]

JOURNAL_ROWS: int
STATE_TILE: int
LAYOUT_VERSION: int

def adopt(layout: str, packed: _U8, experts: int, rows: int, inputs: int) -> Weight: ...
def packed_bytes(layout: str, experts: int, rows: int, inputs: int) -> int: ...
def isas() -> list[str]: ...
def usable_cpus() -> int: ...
def make_cpu(isa: str, threads: int) -> Cpu: ...
def make_step(
    starts: _I32,
    past_len: _I32,
    slots: _I32,
    page_table: _I32,
    capture_rows: _I32,
    capture_slots: _I32,
    journals: _I32,
    pending: _I32,
    defers: _I32,
) -> Step: ...
def make_pages(
    bits: int,
    num_pages: int,
    kv_heads: int,
    head_dim: int,
    keys: _U8,
    values: _U8,
    key_scales: _U16,
    value_scales: _U16,
) -> Pages: ...
def make_slots(tails: _F32, states: _F32, journals: _F32) -> Slots: ...

class Weight:
    experts: int
    rows: int
    inputs: int
    layout: str
    num_bytes: int
    def packed(self) -> _U8: ...

class Step: ...
class Pages: ...
class Slots: ...

class Layers:
    """Mixers and feed-forward networks, to be run in the order in which they were added."""

    def add_attention(
        self,
        norm: _F32,
        eps: float,
        inputs: Sequence[Weight],
        out: Weight,
        query_norm: _F32,
        key_norm: _F32,
        heads: int,
    ) -> None: ...
    def add_delta(
        self,
        norm: _F32,
        eps: float,
        inputs: Sequence[Weight],
        out: Weight,
        conv: _F32,
        a: _F32,
        dt_bias: _F32,
        small_norm: _F32,
    ) -> None: ...
    def add_mlp(self, norm: _F32, eps: float, gate: Weight, up: Weight, down: Weight) -> None: ...
    def add_experts(
        self,
        norm: _F32,
        eps: float,
        router: Weight,
        gate: Weight,
        up: Weight,
        down: Weight,
        shared_router: Weight,
        shared_gate: Weight,
        shared_up: Weight,
        shared_down: Weight,
        num_active: int,
    ) -> None: ...

class VisionPack: ...

class Cpu:
    isa: str
    threads: int
    busy_s: float  # inside operations, so far
    weight_bytes: int  # of the weights that operations multiplied with, so far
    def read_gb_per_s(self, bytes: int) -> float: ...
    def int8_gops(self) -> float: ...
    def float_gflops(self) -> float: ...
    def pack(self, layout: str, source: npt.NDArray[np.uint8], experts: int, rows: int, inputs: int) -> Weight: ...
    def pack_codebook(
        self, format: str, source: _U8, vectors: _I8, signs: _I8, experts: int, rows: int, inputs: int
    ) -> Weight: ...
    def embed(self, table: Weight, ids: _I32) -> _F32: ...
    def rms_norm(self, x: _F32, weight: _F32, eps: float) -> _F32: ...
    def linear(
        self, x: _F32, weights: Sequence[Weight], norm: _F32 | None = None, eps: float = 0.0
    ) -> tuple[_F32, ...]: ...
    def linear_add(self, h: _F32, x: _F32, weight: Weight) -> None: ...
    def gated_mlp(
        self, h: _F32, x: _F32, gate: Weight, up: Weight, down: Weight, norm: _F32 | None = None, eps: float = 0.0
    ) -> None: ...
    def routed_experts(
        self,
        h: _F32,
        x: _F32,
        router: Weight,
        gate: Weight,
        up: Weight,
        down: Weight,
        shared_router: Weight,
        shared_gate: Weight,
        shared_up: Weight,
        shared_down: Weight,
        num_active: int,
        norm: _F32 | None = None,
        eps: float = 0.0,
    ) -> None: ...
    def gated_delta(
        self,
        qkv: _F32,
        z: _F32,
        beta: _F32,
        alpha: _F32,
        conv: _F32,
        a: _F32,
        dt_bias: _F32,
        norm: _F32,
        slots: Slots,
        step: Step,
        eps: float,
    ) -> _F32: ...
    def run_layers(
        self, h: _F32, layers: Layers, states: Sequence[Pages | Slots], cos: _F32, sin: _F32, step: Step
    ) -> None: ...
    def gated_attention(
        self,
        query_gate: _F32,
        key: _F32,
        value: _F32,
        query_norm: _F32,
        key_norm: _F32,
        cos: _F32,
        sin: _F32,
        pages: Pages,
        step: Step,
        heads: int,
        eps: float,
    ) -> _F32: ...
    def rotary(
        self, positions: _I32, frequencies: npt.NDArray[np.float64], axes: _I32, magnitude: float
    ) -> tuple[_F32, _F32]: ...
    def layer_norm(self, x: _F32, weight: _F32, bias: _F32, eps: float) -> _F32: ...
    def add_bias(self, x: _F32, bias: _F32) -> None: ...
    def gelu(self, x: _F32, exact: bool) -> None: ...
    def vision_heads(self, qkv: _F32, cos: _F32, sin: _F32, heads: int) -> VisionPack: ...
    def vision_attention(self, heads: VisionPack, start: int, end: int) -> _F32: ...
    def candidates(self, logits: _F32, k: int) -> tuple[_I32, _F32, float]: ...
    def largest(self, x: _F32, head: Weight, k: int, excluded: _I32) -> tuple[_I32, _F32]: ...
    def softmax(self, x: _F32) -> None: ...

class Encoder:
    formats: list[str]
    def __init__(self, isa: str, threads: int) -> None: ...
    def encode(
        self, format: str, source: str, values: _U8, importance: _F32, cols: int, out: _U8
    ) -> tuple[float, float, float, float, bool]: ...
