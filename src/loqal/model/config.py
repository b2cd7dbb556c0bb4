"""The shape of a model, whatever file it came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from loqal.ops.records import AttentionShape, DeltaShape, RopeConfig, YarnConfig

__all__ = ["ExpertsConfig", "Mixer", "ModelConfig", "RopeConfig", "VisionConfig", "YarnConfig"]

Mixer = Literal["delta", "attention"]


@dataclass(frozen=True, slots=True)
class ExpertsConfig:
    """A mixture of experts in place of the dense feed-forward network."""

    num_experts: int
    num_active: int
    expert_width: int
    shared_width: int


@dataclass(frozen=True, slots=True)
class VisionConfig:
    """The vision tower."""

    depth: int
    width: int
    num_heads: int
    ffn_width: int
    out_width: int
    patch_size: int = 16
    temporal_patch_size: int = 2
    merge_size: int = 2
    num_positions: int = 2304
    norm_eps: float = 1e-6


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Everything the network needs to know about its own shape.

    ``layers`` names the mixer of every trunk layer. ``num_draft_layers`` is 1 when the checkpoint carries the
    multi-token-prediction head, else 0.
    """

    width: int
    layers: tuple[Mixer, ...]
    vocab_size: int
    num_heads: int
    num_kv_heads: int
    num_key_heads: int  # Gated DeltaNet
    num_value_heads: int  # Gated DeltaNet
    ffn_width: int | None  # dense feed-forward width, None with experts
    experts: ExpertsConfig | None
    tied_head: bool
    head_dim: int = 256
    key_dim: int = 128
    value_dim: int = 128
    conv_width: int = 4
    norm_eps: float = 1e-6
    context_len: int = 262144
    rope: RopeConfig = field(default_factory=RopeConfig)
    num_draft_layers: int = 0
    vision: VisionConfig | None = None

    @property
    def conv_channels(self) -> int:
        """Channels of the causal convolution: queries, keys and values side by side."""
        return 2 * self.num_key_heads * self.key_dim + self.num_value_heads * self.value_dim

    @property
    def value_width(self) -> int:
        """Width of all value heads of a Gated DeltaNet layer together."""
        return self.num_value_heads * self.value_dim

    @property
    def attention_shape(self) -> AttentionShape:
        """The shape of the gated attention mixers."""
        return AttentionShape(self.num_heads, self.num_kv_heads, self.head_dim)

    @property
    def delta_shape(self) -> DeltaShape:
        """The shape of the Gated DeltaNet mixers."""
        return DeltaShape(self.num_key_heads, self.num_value_heads, self.key_dim, self.value_dim, self.conv_width)
