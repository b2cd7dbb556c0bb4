"""The network: token ids in, hidden rows out. Written once, for every size and every backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from ..ops.interface import DeltaWeights, FloatArray, IntArray, Norm, Ops, Pages, Rotary, Slots, StepBatch
from ..quant.tensor import Tensor
from .config import ModelConfig


class MixerStates(Protocol):
    """What the trunk needs of a state store: the backend's handle of every layer, in order."""

    @property
    def mixers(self) -> Sequence[Pages | Slots]:
        """Pages of attention layers, slots of Gated DeltaNet layers."""
        ...


class DeltaMixer:
    """Gated DeltaNet: a recurrent state per value head, read and written by every token."""

    def __init__(self, config: ModelConfig, ops: Ops, tensors: Mapping[str, Tensor], prefix: str) -> None:
        self._ops, self._shape, self._eps = ops, config.delta_shape, config.norm_eps
        # beta and alpha decide how the state decays and is written; they are small, so they get float32 inputs.
        self._in = (
            ops.put_weight(tensors[prefix + "qkv"]),
            ops.put_weight(tensors[prefix + "z"]),
            ops.put_weight(tensors[prefix + "beta"], float_inputs=True),
            ops.put_weight(tensors[prefix + "alpha"], float_inputs=True),
        )
        self._small = DeltaWeights(
            conv=ops.put_vector(tensors[prefix + "conv"]).T.copy(),
            a=ops.put_vector(tensors[prefix + "a"]),
            dt_bias=ops.put_vector(tensors[prefix + "dt_bias"]),
            norm=ops.put_vector(tensors[prefix + "norm"]),
        )
        self._out = ops.put_weight(tensors[prefix + "out"])

    def __call__(self, h: FloatArray, norm: Norm, slots: Slots, batch: StepBatch, rotary: Rotary) -> FloatArray:
        """h + mixer(norm(h)), in place: [T D] -> [T D]."""
        return self._ops.delta_mixer(h, norm, self._in, self._out, self._small, slots, batch, self._shape, self._eps)


class AttentionMixer:
    """Full attention with grouped heads, partial rotary positions and an output gate."""

    def __init__(self, config: ModelConfig, ops: Ops, tensors: Mapping[str, Tensor], prefix: str) -> None:
        self._ops, self._shape, self._eps = ops, config.attention_shape, config.norm_eps
        self._in = tuple(ops.put_weight(tensors[prefix + name]) for name in ("query", "key", "value"))
        self._query_norm = ops.put_vector(tensors[prefix + "query_norm"])
        self._key_norm = ops.put_vector(tensors[prefix + "key_norm"])
        self._out = ops.put_weight(tensors[prefix + "out"])

    def __call__(self, h: FloatArray, norm: Norm, pages: Pages, batch: StepBatch, rotary: Rotary) -> FloatArray:
        """h + mixer(norm(h)), in place: [T D] -> [T D]."""
        norms = self._query_norm, self._key_norm
        return self._ops.attention_mixer(
            h, norm, self._in, self._out, *norms, rotary, pages, batch, self._shape, self._eps
        )


class DenseMlp:
    """The feed-forward network of the dense sizes."""

    def __init__(self, ops: Ops, tensors: Mapping[str, Tensor], prefix: str) -> None:
        self._ops = ops
        self._gate, self._up, self._down = (ops.put_weight(tensors[prefix + name]) for name in ("gate", "up", "down"))

    def __call__(self, h: FloatArray, norm: Norm) -> FloatArray:
        """h + mlp(norm(h)), in place: [T D] -> [T D]."""
        return self._ops.gated_mlp(h, h, self._gate, self._up, self._down, norm)


class Experts:
    """The mixture of experts, with one shared expert that every token uses."""

    def __init__(self, config: ModelConfig, ops: Ops, tensors: Mapping[str, Tensor], prefix: str) -> None:
        assert config.experts is not None
        self._ops, self._num_active = ops, config.experts.num_active
        self._weights = {
            name: ops.put_weight(tensors[prefix + name], float_inputs=name.endswith("router"))
            for name in ("router", "gate", "up", "down", "shared_router", "shared_gate", "shared_up", "shared_down")
        }

    def __call__(self, h: FloatArray, norm: Norm) -> FloatArray:
        """h + experts(norm(h)), in place: [T D] -> [T D]."""
        return self._ops.routed_experts(h, h, **self._weights, num_active=self._num_active, norm=norm)


class Layer:
    """One decoder layer: norm, mixer, norm, feed-forward, each added to the residual ``h`` in place."""

    def __init__(self, config: ModelConfig, ops: Ops, tensors: Mapping[str, Tensor], prefix: str, mixer: str) -> None:
        self._input_norm = Norm(ops.put_vector(tensors[prefix + "input_norm"]), config.norm_eps)
        self._post_norm = Norm(ops.put_vector(tensors[prefix + "post_norm"]), config.norm_eps)
        self._mixer: DeltaMixer | AttentionMixer = (
            DeltaMixer(config, ops, tensors, prefix + "delta.")
            if mixer == "delta"
            else AttentionMixer(config, ops, tensors, prefix + "attention.")
        )
        self._mlp: DenseMlp | Experts = (
            Experts(config, ops, tensors, prefix + "experts.")
            if config.experts
            else DenseMlp(ops, tensors, prefix + "mlp.")
        )

    def __call__(self, h: FloatArray, state: Pages | Slots, batch: StepBatch, rotary: Rotary) -> FloatArray:
        """[T D] -> [T D], in place."""
        return self._mlp(self._mixer(h, self._input_norm, state, batch, rotary), self._post_norm)


class Decoder:
    """The trunk: embedding, layers, final norm, and the head for the rows somebody asked for.

    Args:
        tensors: canonical names (model/tensor_names.py) to tensors.

    Attributes:
        head: the weight that makes logits of hidden rows.
    """

    def __init__(self, config: ModelConfig, ops: Ops, tensors: Mapping[str, Tensor]) -> None:
        self.config, self.ops = config, ops
        self._embed = ops.put_weight(tensors["embed"])
        self._layers = [
            Layer(config, ops, tensors, f"layers.{index}.", mixer) for index, mixer in enumerate(config.layers)
        ]
        self._output_norm = ops.put_vector(tensors["output_norm"])
        self.head = self._embed if config.tied_head else ops.put_weight(tensors["output"])

    def embed(self, batch: StepBatch) -> FloatArray:
        """What enters the network: embedding rows of the step's tokens, or the rows that replace them: -> [T D]."""
        h = self.ops.embed(self._embed, batch.token_ids)
        return h if batch.input_embeddings is None else self.ops.put_rows(h, batch.input_rows, batch.input_embeddings)

    def forward(self, batch: StepBatch, state: MixerStates) -> FloatArray:
        """Hidden rows after the final norm: -> [T D]. Advances the states of the batch's sequences in ``state``."""
        rotary = self.ops.rotary(batch.positions, self.config.rope)
        h = self.embed(batch)
        for layer, mixer_state in zip(self._layers, state.mixers, strict=True):
            h = layer(h, mixer_state, batch, rotary)
        return self.ops.rms_norm(h, self._output_norm, self.config.norm_eps)

    def unembed(self, hidden: FloatArray) -> FloatArray:
        """Logits of hidden rows, the trunk's or the draft head's: [R D] -> [R V]."""
        return self.ops.unembed(hidden, self.head)

    def largest(self, hidden: FloatArray, k: int, excluded: IntArray) -> tuple[IntArray, FloatArray]:
        """The k largest logits of hidden rows without the excluded ids: [R D] -> ids [R k], logits [R k]."""
        return self.ops.largest(hidden, self.head, k, excluded)
