"""The multi-token-prediction head: drafts the token after next from a hidden row and the next token."""

from __future__ import annotations

from collections.abc import Mapping

from loqal.formats.tensor import Tensor
from loqal.model.decoder import Decoder, put_layer
from loqal.ops.interface import FloatArray, Pages, StepBatch


class DraftHead:
    """One attention layer over the projected pair (embedding of the next token, hidden row of this one).

    It shares the trunk's embedding and head and keeps keys and values of its own.
    """

    def __init__(self, trunk: Decoder, tensors: Mapping[str, Tensor]) -> None:
        ops, config = trunk.ops, trunk.config
        self._trunk = trunk
        self._embed_norm = ops.put_vector(tensors["draft.embed_norm"])
        self._hidden_norm = ops.put_vector(tensors["draft.hidden_norm"])
        self._project = ops.pack_weight(tensors["draft.project"])
        self._layer = ops.put_layers([put_layer(config, ops, tensors, "draft.layer.", "attention")])
        self._output_norm = ops.put_vector(tensors["draft.output_norm"])

    def forward(self, batch: StepBatch, hidden: FloatArray, pages: Pages) -> FloatArray:
        """Hidden rows that ``Decoder.unembed`` turns into draft logits: [T D] -> [T D].

        Row t pairs ``hidden[t]``, the trunk's output at some position after its final norm (or this head's own output,
        to draft further ahead), with ``batch.token_ids[t]``, the token that follows that position.
        """
        ops, config = self._trunk.ops, self._trunk.config
        rotary = ops.rotary(batch.positions, config.rope)
        pair = ops.concat(
            ops.rms_norm(self._trunk.embed(batch), self._embed_norm, config.norm_eps),
            ops.rms_norm(hidden, self._hidden_norm, config.norm_eps),
        )
        (h,) = ops.linear(pair, (self._project,))
        h = ops.run_layers(h, self._layer, [pages], rotary, batch)
        return ops.rms_norm(h, self._output_norm, config.norm_eps)
