"""The decoder network: token ids to hidden rows, for every model size and backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from loqal.formats.tensor import Tensor
from loqal.model.config import ModelConfig
from loqal.ops.interface import FloatArray, IntArray, Ops, Pages, Slots, StepBatch
from loqal.ops.records import AttentionMixer, DeltaMixer, DeltaWeights, DenseMlp, Experts, Layer, Norm


class MixerStates(Protocol):
    """The states that the decoder needs: the backend's handle of every layer, in order."""

    @property
    def mixers(self) -> Sequence[Pages | Slots]:
        """Pages of attention layers, slots of Gated DeltaNet layers."""
        ...


def put_layer(config: ModelConfig, ops: Ops, tensors: Mapping[str, Tensor], prefix: str, mixer: str) -> Layer:
    """The weights of one decoder layer, packed by the backend."""

    def norm(name: str) -> Norm:
        return Norm(ops.put_vector(tensors[prefix + name]), config.norm_eps)

    return Layer(
        norm("input_norm"),
        _delta(config, ops, tensors, prefix + "delta.")
        if mixer == "delta"
        else _attention(config, ops, tensors, prefix + "attention."),
        norm("post_norm"),
        _experts(config, ops, tensors, prefix + "experts.")
        if config.experts
        else _dense(ops, tensors, prefix + "mlp."),
    )


def _delta(config: ModelConfig, ops: Ops, tensors: Mapping[str, Tensor], prefix: str) -> DeltaMixer:
    return DeltaMixer(
        # beta and alpha decide how the state decays and is written; they are small, so they get float32 inputs.
        inputs=(
            ops.pack_weight(tensors[prefix + "qkv"]),
            ops.pack_weight(tensors[prefix + "z"]),
            ops.pack_weight(tensors[prefix + "beta"], float_inputs=True),
            ops.pack_weight(tensors[prefix + "alpha"], float_inputs=True),
        ),
        small=DeltaWeights(
            conv=ops.put_vector(tensors[prefix + "conv"]).T.copy(),
            a=ops.put_vector(tensors[prefix + "a"]),
            dt_bias=ops.put_vector(tensors[prefix + "dt_bias"]),
            norm=ops.put_vector(tensors[prefix + "norm"]),
        ),
        out=ops.pack_weight(tensors[prefix + "out"]),
        shape=config.delta_shape,
    )


def _attention(config: ModelConfig, ops: Ops, tensors: Mapping[str, Tensor], prefix: str) -> AttentionMixer:
    query_gate, key, value = (ops.pack_weight(tensors[prefix + name]) for name in ("query", "key", "value"))
    return AttentionMixer(
        inputs=(query_gate, key, value),
        query_norm=ops.put_vector(tensors[prefix + "query_norm"]),
        key_norm=ops.put_vector(tensors[prefix + "key_norm"]),
        out=ops.pack_weight(tensors[prefix + "out"]),
        shape=config.attention_shape,
    )


def _dense(ops: Ops, tensors: Mapping[str, Tensor], prefix: str) -> DenseMlp:
    return DenseMlp(*(ops.pack_weight(tensors[prefix + name]) for name in ("gate", "up", "down")))


def _experts(config: ModelConfig, ops: Ops, tensors: Mapping[str, Tensor], prefix: str) -> Experts:
    assert config.experts is not None
    names = ("router", "gate", "up", "down", "shared_router", "shared_gate", "shared_up", "shared_down")
    weights = {name: ops.pack_weight(tensors[prefix + name], float_inputs=name.endswith("router")) for name in names}
    return Experts(**weights, num_active=config.experts.num_active)


class Decoder:
    """Embedding, layers, final norm, and the head for selected rows.

    Args:
        tensors: canonical names (model/tensor_names.py) to tensors.

    Attributes:
        head: the weight that makes logits of hidden rows.
    """

    def __init__(self, config: ModelConfig, ops: Ops, tensors: Mapping[str, Tensor]) -> None:
        self.config, self.ops = config, ops
        self._embed = ops.pack_weight(tensors["embed"])
        self._layers = ops.put_layers(
            [put_layer(config, ops, tensors, f"layers.{index}.", mixer) for index, mixer in enumerate(config.layers)]
        )
        self._output_norm = ops.put_vector(tensors["output_norm"])
        self.head = self._embed if config.tied_head else ops.pack_weight(tensors["output"])

    def embed(self, batch: StepBatch) -> FloatArray:
        """The inputs of the network: embedding rows of the step's tokens, or the rows that replace them: -> [T D]."""
        h = self.ops.embed(self._embed, batch.token_ids)
        return h if batch.input_embeddings is None else self.ops.put_rows(h, batch.input_rows, batch.input_embeddings)

    def forward(self, batch: StepBatch, state: MixerStates) -> FloatArray:
        """Hidden rows after the final norm: -> [T D]. Advances the states of the batch's sequences in ``state``."""
        rotary = self.ops.rotary(batch.positions, self.config.rope)
        h = self.ops.run_layers(self.embed(batch), self._layers, state.mixers, rotary, batch)
        return self.ops.rms_norm(h, self._output_norm, self.config.norm_eps)

    def unembed(self, hidden: FloatArray) -> FloatArray:
        """Logits of hidden rows, the trunk's or the draft head's: [R D] -> [R V]."""
        return self.ops.unembed(hidden, self.head)

    def top_k(self, hidden: FloatArray, k: int, excluded: IntArray) -> tuple[IntArray, FloatArray]:
        """The k largest logits of hidden rows without the excluded ids: [R D] -> ids [R k], logits [R k]."""
        return self.ops.top_k(hidden, self.head, k, excluded)
