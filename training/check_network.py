"""Compare the trainable network with the published implementation in ``transformers``, on random weights.

Run it after a change to ``network.py``: the exported file is only worth something if the network is the family's own.
``transformers`` has no draft head, so that is compared with loqal's, which reads it from an exported file.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from transformers import Qwen3_5ForCausalLM, Qwen3_5TextConfig

from export import config_of
from loqal.engine import step_batch
from loqal.model.decoder import Decoder
from loqal.model.draft_head import DraftHead
from loqal.ops.choose import choose_ops
from loqal.ops.interface import StepBatch
from loqal.state.store import StateStore
from loqal.testing.checkpoints import from_hf, write_gguf
from loqal.weights.load import open_checkpoint
from network import Network, Packing, Shape


def reference_model(net: Network) -> Qwen3_5ForCausalLM:
    """The same weights in the published classes."""
    shape = net.shape
    config = Qwen3_5TextConfig(
        vocab_size=shape.vocab_size,
        hidden_size=shape.width,
        intermediate_size=shape.ffn_width,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_kv_heads,
        head_dim=shape.head_dim,
        linear_num_key_heads=shape.num_key_heads,
        linear_num_value_heads=shape.num_value_heads,
        linear_key_head_dim=shape.delta_dim,
        linear_value_head_dim=shape.delta_dim,
        linear_conv_kernel_dim=shape.conv_width,
        full_attention_interval=shape.interval,
        rms_norm_eps=shape.eps,
        tie_word_embeddings=True,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": shape.theta,
            "partial_rotary_factor": shape.rotary_dim / shape.head_dim,
            "mrope_section": [11, 11, 10],
            "mrope_interleaved": True,
        },
    )
    config._attn_implementation = "eager"
    model = Qwen3_5ForCausalLM(config).eval()
    weights = {f"model.{name}": value for name, value in net.state_dict().items() if not name.startswith("mtp.")}
    weights["lm_head.weight"] = net.embed_tokens.weight
    missing, unexpected = model.load_state_dict(weights, strict=False)
    if missing or unexpected:
        raise ValueError(f"missing {missing}, unexpected {unexpected}")
    return model


def randomized(shape: Shape) -> Network:
    """A network in which every weight, norms and gates included, is random and matters."""
    net = Network(shape, seed=3)
    with torch.no_grad():
        for weight in net.parameters():
            weight.add_(torch.randn_like(weight) * (0.2 if weight.dim() == 1 else 0.05))
    return net


@torch.no_grad()
def exported_errors(net: Network, ids: list[int]) -> tuple[float, float]:
    """Largest differences of the trunk's and the draft head's rows between the network and loqal with its file."""
    config = config_of(net.shape)
    with tempfile.TemporaryDirectory() as folder:
        path = write_gguf(Path(folder) / "model.gguf", config, from_hf(config, net.named_arrays()), "F32")
        checkpoint = open_checkpoint(path)
        ops = choose_ops("reference")
        trunk = Decoder(config, ops, checkpoint.tensors)
        draft = DraftHead(trunk, checkpoint.tensors)
        store = StateStore(ops, config, num_slots=1, num_pages=4)
        state = store.open()
        store.reserve(state, len(ids))

        def batch(tokens: list[int]) -> StepBatch:
            places = np.repeat(np.arange(len(tokens), dtype=np.int32)[:, None], 3, axis=1)
            return step_batch.build([step_batch.Run(state, tokens, places)])

        hidden = trunk.forward(batch(ids), store)
        guesses = draft.forward(batch(ids[1:]), hidden[:-1], store.draft_pages)
        checkpoint.close()
    expected = net.trunk(torch.tensor([ids]))
    drafted = net.draft(expected, torch.tensor([ids]))
    return float(np.abs(hidden - expected[0].numpy()).max()), float(np.abs(guesses - drafted[0].numpy()).max())


@torch.no_grad()
def main() -> None:
    """Print the largest differences and fail when they exceed what float32 explains."""
    for shape in (
        Shape(512),
        Shape(512, num_layers=8, num_heads=4, num_kv_heads=2, num_key_heads=2, num_value_heads=6),
    ):
        net = randomized(shape)
        ids = torch.randint(0, 512, (2, 192))
        ours, theirs = net.logits(net.trunk(ids)), reference_model(net)(ids).logits
        error = float((ours - theirs).abs().max() / theirs.abs().max())
        segments = torch.cat([torch.zeros(1, 70), torch.ones(1, 122)], 1).long()
        packed = net.trunk(torch.cat([ids[:1, :70], ids[1:, :122]], 1), Packing(segments))
        whole = torch.cat([net.trunk(ids)[:1, :70], net.trunk(ids)[1:, :122]], 1)
        apart = float((packed - whole).abs().max() / whole.abs().max())
        print(f"{shape.num_layers} layers: relative error of logits {error:.1e}, of packed rows {apart:.1e}")
        if max(error, apart) > 1e-4:
            raise SystemExit("The networks differ.")
    # loqal keeps keys and values in float16, hence the wider bound.
    trunk, draft = exported_errors(randomized(Shape(512)), torch.randint(0, 512, (64,)).tolist())
    print(f"exported: error of the trunk's rows {trunk:.1e}, of the draft head's {draft:.1e}")
    if max(trunk, draft) > 5e-3:
        raise SystemExit("The exported file differs.")


if __name__ == "__main__":
    main()
