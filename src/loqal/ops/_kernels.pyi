"""
Native kernels of loqal, made by nanobind from cpp/bindings. Arrays are C-contiguous.
"""

from collections.abc import Sequence
from typing import Annotated

import numpy
from numpy.typing import NDArray


LAYOUT_VERSION: int = 1

PANEL_ROWS: int = 16

RUN_INPUTS: int = 32

PAGE_TOKENS: int = 64

SPAN_TOKENS: int = 512

KV_BLOCK: int = 64

VISION_SPAN: int = 512

JOURNAL_ROWS: int = 8

DELTA_HEAD_DIM: int = 128

CONV_WIDTH: int = 4

STATE_TILE: int = 32

HUGE_PAGE_BYTES: int = 2097152

ARENA_CHUNK_BYTES: int = 67108864

ALIGNMENT_BYTES: int = 64

BLOCK_UNIT_BYTES: int = 4096

def isas() -> list[str]:
    """Instruction sets this machine can run, best first."""

def usable_cpus() -> int:
    """CPUs of the affinity mask within the cgroup's quota."""

def make_cpu(isa: str, threads: int) -> Cpu:
    """Kernels of one instruction set and a pool of threads."""

class Weight:
    """
    A linear weight [rows inputs], or one for each expert, in panels of 16 rows.
    """

    @property
    def experts(self) -> int: ...

    @property
    def rows(self) -> int: ...

    @property
    def inputs(self) -> int: ...

    @property
    def layout(self) -> str: ...

    @property
    def num_bytes(self) -> int: ...

    def packed(self) -> Annotated[NDArray[numpy.uint8], dict(shape=(None,), writable=False)]:
        """All panels, without a copy."""

def packed_formats() -> list[str]:
    """Formats with a packed layout of their own."""

def packed_bytes(layout: str, experts: int, rows: int, inputs: int) -> int:
    """Bytes of a weight once it is packed."""

def adopt(layout: str, packed: Annotated[NDArray[numpy.uint8], dict(shape=(None,), order='C', device='cpu', writable=False)], experts: int, rows: int, inputs: int) -> Weight:
    """
    A weight over panels that were packed before; the array lives as long as the weight.
    """

class VisionPack:
    """Queries, keys and values of one picture."""

class Cpu:
    """The operations; the errors of wrong shapes are ValueError."""

    @property
    def isa(self) -> str: ...

    @property
    def threads(self) -> int: ...

    @property
    def busy_s(self) -> float:
        """Inside operations, so far."""

    @property
    def weight_bytes(self) -> int:
        """Of the weights that operations multiplied with, so far."""

    def read_gb_per_s(self, bytes: int) -> float:
        """Speed of reading that much memory in order."""

    def int8_gops(self) -> float:
        """Integer operations in 10^9/s."""

    def float_gflops(self) -> float:
        """Float operations in 10^9/s."""

    def pack(self, layout: str, source: Annotated[NDArray[numpy.uint8], dict(shape=(None,), order='C', device='cpu', writable=False)], experts: int, rows: int, inputs: int) -> Weight:
        """Packs blocks as a file has them, [experts rows inputs]."""

    def pack_codebook(self, format: str, source: Annotated[NDArray[numpy.uint8], dict(shape=(None,), order='C', device='cpu', writable=False)], vectors: Annotated[NDArray[numpy.int8], dict(shape=(None, None), order='C', device='cpu', writable=False)], signs: Annotated[NDArray[numpy.int8], dict(shape=(None, None), order='C', device='cpu', writable=False)], experts: int, rows: int, inputs: int) -> Weight:
        """The same for a format whose codes name vectors of a codebook."""

    def embed(self, table: Weight, ids: Annotated[NDArray[numpy.int32], dict(shape=(None,), order='C', device='cpu', writable=False)]) -> NDArray[numpy.float32]:
        """Rows of a weight: ids [T] -> [T inputs]."""

    def rms_norm(self, x: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu', writable=False)], weight: Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)], eps: float) -> NDArray[numpy.float32]:
        """x [T D], weight [D] -> [T D]."""

    def linear(self, x: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu', writable=False)], weights: Sequence[Weight], norm: Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)] | None = None, eps: float = 0.0) -> tuple[NDArray[numpy.float32], ...]:
        """
        x [T K], behind a norm [K] if there is one, times each weight [O K] -> [T O] each.
        """

    def linear_add(self, h: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu')], x: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu', writable=False)], weight: Weight) -> None:
        """h [T O] += x [T K] times weight [O K]."""

    def rotary(self, positions: Annotated[NDArray[numpy.int32], dict(shape=(None, None), order='C', device='cpu', writable=False)], frequencies: Annotated[NDArray[numpy.float64], dict(shape=(None,), order='C', device='cpu', writable=False)], axes: Annotated[NDArray[numpy.int32], dict(shape=(None,), order='C', device='cpu', writable=False)], magnitude: float) -> tuple[NDArray[numpy.float32], NDArray[numpy.float32]]:
        """
        positions [T 3], frequencies and axes [pairs] -> cosines and sines [T pairs].
        """

    def layer_norm(self, x: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu', writable=False)], weight: Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)], bias: Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)], eps: float) -> NDArray[numpy.float32]:
        """x [N D], weight and bias [D] -> [N D]."""

    def add_bias(self, x: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu')], bias: Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)]) -> None:
        """x [N D] += bias [D]."""

    def gelu(self, x: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu')], exact: bool) -> None:
        """x [N D], in place."""

    def vision_heads(self, qkv: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu', writable=False)], cos: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu', writable=False)], sin: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu', writable=False)], heads: int) -> VisionPack:
        """
        qkv [N 3 heads head_dim], cos and sin [N head_dim/2], for vision_attention.
        """

    def vision_attention(self, heads: VisionPack, start: int, end: int) -> NDArray[numpy.float32]:
        """
        Attention of rows start to end to all rows -> [end-start heads*head_dim].
        """

    def candidates(self, logits: Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)], k: int) -> tuple[NDArray[numpy.int32], NDArray[numpy.float32], float]:
        """
        logits [V] -> ids [k] and logits [k], largest first and ties by lower id, and the log-sum-exp of all.
        """

    def largest(self, x: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu', writable=False)], head: Weight, k: int, excluded: Annotated[NDArray[numpy.int32], dict(shape=(None,), order='C', device='cpu', writable=False)]) -> tuple[NDArray[numpy.int32], NDArray[numpy.float32]]:
        """
        The k largest of every row of x [R D] times head [V D] without the excluded ids, which ascend -> ids [R k], logits [R k].
        """

    def softmax(self, x: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu')]) -> None:
        """x [N D], in place by row."""

    def gated_mlp(self, h: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu')], x: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu', writable=False)], gate: Weight, up: Weight, down: Weight, norm: Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)] | None = None, eps: float = 0.0) -> None:
        """
        h [T D] += down (silu(gate x) * up x), x [T D] behind a norm [D] if there is one.
        """

    def routed_experts(self, h: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu')], x: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu', writable=False)], router: Weight, gate: Weight, up: Weight, down: Weight, shared_router: Weight, shared_gate: Weight, shared_up: Weight, shared_down: Weight, num_active: int, norm: Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)] | None = None, eps: float = 0.0) -> None:
        """
        The same with the experts that the router picks for each row, and the shared one.
        """

    def gated_delta(self, qkv: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu', writable=False)], z: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu', writable=False)], beta: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu', writable=False)], alpha: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu', writable=False)], conv: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu', writable=False)], a: Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)], dt_bias: Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)], norm: Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)], slots: Slots, step: Step, eps: float) -> NDArray[numpy.float32]:
        """See ops.interface.Ops -> [T Hv*DELTA_HEAD_DIM]."""

    def gated_attention(self, query_gate: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu', writable=False)], key: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu', writable=False)], value: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu', writable=False)], query_norm: Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)], key_norm: Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)], cos: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu', writable=False)], sin: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu', writable=False)], pages: Pages, step: Step, heads: int, eps: float) -> NDArray[numpy.float32]:
        """See ops.interface.Ops -> [T H*head_dim]."""

    def run_layers(self, h: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu')], layers: Layers, states: Sequence[Pages | Slots], cos: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu', writable=False)], sin: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu', writable=False)], step: Step) -> None:
        """
        h [T D] through all layers, in place; `states` has the pages or slots of every layer.
        """

class Step:
    """The sequences of one step."""

def make_step(starts: Annotated[NDArray[numpy.int32], dict(shape=(None,), order='C', device='cpu', writable=False)], past_len: Annotated[NDArray[numpy.int32], dict(shape=(None,), order='C', device='cpu', writable=False)], slots: Annotated[NDArray[numpy.int32], dict(shape=(None,), order='C', device='cpu', writable=False)], page_table: Annotated[NDArray[numpy.int32], dict(shape=(None, None), order='C', device='cpu', writable=False)], capture_rows: Annotated[NDArray[numpy.int32], dict(shape=(None,), order='C', device='cpu', writable=False)], capture_slots: Annotated[NDArray[numpy.int32], dict(shape=(None,), order='C', device='cpu', writable=False)], journals: Annotated[NDArray[numpy.int32], dict(shape=(None,), order='C', device='cpu', writable=False)], pending: Annotated[NDArray[numpy.int32], dict(shape=(None,), order='C', device='cpu', writable=False)], defers: Annotated[NDArray[numpy.int32], dict(shape=(None,), order='C', device='cpu', writable=False)]) -> Step:
    """See ops.interface.StepBatch."""

class Pages:
    """Keys and values of one layer."""

def make_pages(bits: int, num_pages: int, kv_heads: int, head_dim: int, keys: Annotated[NDArray[numpy.uint8], dict(shape=(None,), order='C', device='cpu')], values: Annotated[NDArray[numpy.uint8], dict(shape=(None,), order='C', device='cpu')], key_scales: Annotated[NDArray[numpy.uint16], dict(shape=(None,), order='C', device='cpu')], value_scales: Annotated[NDArray[numpy.uint16], dict(shape=(None,), order='C', device='cpu')]) -> Pages:
    """
    Arrays of num_pages kv_heads PAGE_TOKENS head_dim numbers of `bits` bits.
    """

class Slots:
    """Recurrent states of one layer."""

def make_slots(tails: Annotated[NDArray[numpy.float32], dict(shape=(None, None, None), order='C', device='cpu')], states: Annotated[NDArray[numpy.float32], dict(shape=(None, None, None, None), order='C', device='cpu')], journals: Annotated[NDArray[numpy.float32], dict(shape=(None, None, None), order='C', device='cpu')]) -> Slots:
    """
    tails [slots CONV_WIDTH-1 C], states [slots Hv tiles*DELTA_HEAD_DIM STATE_TILE], journals [J JOURNAL_ROWS journal_row_floats].
    """

def journal_row_floats(key_heads: int, value_heads: int) -> int:
    """Numbers in one row of a journal."""

class Layers:
    """
    Mixers and feed-forward networks, to be run in the order in which they were added.
    """

    def __init__(self) -> None: ...

    def add_attention(self, norm: Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)], eps: float, inputs: Sequence[Weight], out: Weight, query_norm: Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)], key_norm: Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)], heads: int) -> None:
        """inputs: query with gate, key, value."""

    def add_delta(self, norm: Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)], eps: float, inputs: Sequence[Weight], out: Weight, conv: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu', writable=False)], a: Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)], dt_bias: Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)], small_norm: Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)]) -> None:
        """inputs: qkv, z, beta, alpha."""

    def add_mlp(self, norm: Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)], eps: float, gate: Weight, up: Weight, down: Weight) -> None: ...

    def add_experts(self, norm: Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)], eps: float, router: Weight, gate: Weight, up: Weight, down: Weight, shared_router: Weight, shared_gate: Weight, shared_up: Weight, shared_down: Weight, num_active: int) -> None: ...

class Encoder:
    """The encoders of weight formats, with a pool of threads of their own."""

    def __init__(self, isa: str, threads: int) -> None: ...

    @property
    def formats(self) -> list[str]: ...

    def encode(self, format: str, source: str, values: Annotated[NDArray[numpy.uint8], dict(shape=(None,), order='C', device='cpu', writable=False)], importance: Annotated[NDArray[numpy.float32], dict(shape=(None,), order='C', device='cpu', writable=False)], cols: int, out: Annotated[NDArray[numpy.uint8], dict(shape=(None,), order='C', device='cpu')]) -> tuple[float, float, float, float, bool]:
        """
        Stores `values` (the bytes of F32, F16 or BF16 numbers, whole rows of `cols`) as blocks in `out`; importance is [cols], or empty. Returns squared, weighted, energy, weighted energy, storable.
        """
