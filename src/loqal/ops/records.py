"""Records of the network: a decoder layer, its mixers, feed-forward networks and norms, and their shapes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]
Weight = Any  # a backend's own form of one linear weight, opaque to the model


@dataclass(frozen=True, slots=True)
class YarnConfig:
    """YaRN stretching of the rotary frequencies, as the cards of the 4B and larger models describe it."""

    factor: float
    original_context: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0


@dataclass(frozen=True, slots=True)
class RopeConfig:
    """Rotary positions: the first ``rotary_dim`` dimensions of a head turn, in pairs (i, i + rotary_dim / 2)."""

    rotary_dim: int = 64
    theta: float = 1e7
    sections: tuple[int, int, int] = (11, 11, 10)  # pairs that follow the time, height and width position
    yarn: YarnConfig | None = None


@dataclass(frozen=True, slots=True)
class Norm:
    """An RMS norm that rows go through before an operation, see ``Ops.rms_norm``."""

    weight: FloatArray  # [D]
    eps: float


@dataclass(frozen=True, slots=True)
class DeltaWeights:
    """The small weights of a Gated DeltaNet mixer, value heads in tiled order (head j reads key head j mod Hk)."""

    conv: FloatArray  # [4 C], tap-major: tap 3 meets the newest input
    a: FloatArray  # [Hv], -exp(A_log)
    dt_bias: FloatArray  # [Hv]
    norm: FloatArray  # [value_dim]


@dataclass(frozen=True, slots=True)
class AttentionShape:
    """The shape of a gated attention mixer."""

    num_heads: int
    num_kv_heads: int
    head_dim: int


@dataclass(frozen=True, slots=True)
class DeltaShape:
    """The shape of a Gated DeltaNet mixer."""

    num_key_heads: int
    num_value_heads: int
    key_dim: int
    value_dim: int
    conv_width: int


@dataclass(frozen=True, slots=True)
class AttentionMixer:
    """Full attention with grouped heads, partial rotary positions and an output gate."""

    inputs: tuple[Weight, Weight, Weight]  # query and gate, key, value
    query_norm: FloatArray  # [head_dim]
    key_norm: FloatArray  # [head_dim]
    out: Weight
    shape: AttentionShape


@dataclass(frozen=True, slots=True)
class DeltaMixer:
    """Gated DeltaNet: a recurrent state per value head, read and written by every token."""

    inputs: tuple[Weight, Weight, Weight, Weight]  # qkv, z, beta, alpha
    small: DeltaWeights
    out: Weight
    shape: DeltaShape


@dataclass(frozen=True, slots=True)
class DenseMlp:
    """The feed-forward network of the dense sizes."""

    gate: Weight
    up: Weight
    down: Weight


@dataclass(frozen=True, slots=True)
class Experts:
    """The mixture of experts, with one shared expert that every token uses; gate, up and down are stacked."""

    router: Weight
    gate: Weight
    up: Weight
    down: Weight
    shared_router: Weight
    shared_gate: Weight
    shared_up: Weight
    shared_down: Weight
    num_active: int


@dataclass(frozen=True, slots=True)
class Layer:
    """One decoder layer: norm, mixer, norm, feed-forward network, each pair added to the residual."""

    input_norm: Norm
    mixer: AttentionMixer | DeltaMixer
    post_norm: Norm
    mlp: DenseMlp | Experts
