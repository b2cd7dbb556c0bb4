"""Write a trained checkpoint as a GGUF file with its vocabulary and chat template.

    python training/export.py --run training/runs/main --out src/loqal/assets/demo.gguf

Names, head order and conventions are those of the family's published files, so any runtime of the family can read it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

import tokenizer as vocabulary
from eyes import EyeShape
from loqal.model.config import ModelConfig, RopeConfig, VisionConfig
from loqal.testing.checkpoints import from_hf, write_gguf
from network import Network, Shape

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5  # token types of the format
NAME = "loqal demonstration model"
DESCRIPTION = "A very small model trained on generated examples; see training/README.md in the loqal project."


def load_network(run: Path) -> Network:
    """The network of a run's checkpoint."""
    saved = torch.load(run / "checkpoint.pt", weights_only=True)
    net = Network(Shape(**saved["shape"]), eyes=EyeShape(**saved["eyes"]))
    net.load_state_dict(saved["weights"])
    return net


def config_of(shape: Shape, eyes: EyeShape | None = None) -> ModelConfig:
    """The same sizes in loqal's words."""
    return ModelConfig(
        width=shape.width,
        layers=tuple("attention" if shape.is_attention(n) else "delta" for n in range(shape.num_layers)),
        vocab_size=shape.vocab_size,
        num_heads=shape.num_heads,
        num_kv_heads=shape.num_kv_heads,
        num_key_heads=shape.num_key_heads,
        num_value_heads=shape.num_value_heads,
        ffn_width=shape.ffn_width,
        experts=None,
        tied_head=True,
        head_dim=shape.head_dim,
        key_dim=shape.delta_dim,
        value_dim=shape.delta_dim,
        conv_width=shape.conv_width,
        norm_eps=shape.eps,
        context_len=shape.context_len,
        rope=RopeConfig(shape.rotary_dim, shape.theta),
        num_draft_layers=1,
        vision=None
        if eyes is None
        else VisionConfig(
            depth=eyes.depth,
            width=eyes.width,
            num_heads=eyes.num_heads,
            ffn_width=eyes.ffn_width,
            out_width=eyes.out_width,
            num_positions=eyes.side**2,
        ),
    )


def vocabulary_keys(tokenizer: Tokenizer, num_rows: int) -> dict[str, Any]:
    """The tokenizer as GGUF metadata. Rows without a token are filler."""
    document = json.loads(tokenizer.to_str())
    tokens, types = [f"[PAD{index}]" for index in range(num_rows)], [UNUSED] * num_rows
    for text, index in document["model"]["vocab"].items():
        tokens[index], types[index] = text, NORMAL
    for added in document["added_tokens"]:
        tokens[added["id"]], types[added["id"]] = added["content"], CONTROL if added["special"] else USER_DEFINED
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen35",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": np.array(types, np.int32),
        "tokenizer.ggml.merges": [" ".join(merge) for merge in document["model"]["merges"]],
        "tokenizer.ggml.eos_token_id": tokenizer.token_to_id("<|im_end|>"),
        "tokenizer.ggml.padding_token_id": tokenizer.token_to_id("<|endoftext|>"),
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": (Path(__file__).parent / "chat_template.jinja").read_text(),
    }


def export(run: Path, out: Path, mmproj: Path, format: str) -> None:
    """Write the text model and its eyes; matrices are stored as ``format``, small tensors as F32."""
    net = load_network(run)
    tokenizer = vocabulary.load(run.parent / "tokenizer.json")
    config = config_of(net.shape, net.visual.shape)
    state = net.named_arrays()
    metadata = {
        "general.name": NAME,
        "general.description": DESCRIPTION,
        "general.license": "apache-2.0",
        "general.size_label": f"{sum(values.size for values in state.values()) / 1e6:.1f}M",
        "general.languages": ["en"],
        # Copying and counting tasks suffer from penalties and chance, so the file asks for greedy replies.
        "general.sampling.temp": 0.0,
        "general.sampling.penalty_present": 0.0,
        **vocabulary_keys(tokenizer, net.shape.vocab_size),
    }
    write_gguf(out, config, from_hf(config, state), format, mmproj=mmproj, metadata=metadata, vision_format=format)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path(__file__).parent / "runs" / "main")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--mmproj", type=Path, help="mmproj-NAME beside the other file when not given")
    parser.add_argument("--format", default="Q8_0", choices=("Q8_0", "F16", "BF16", "F32"))
    args = parser.parse_args()
    mmproj = args.mmproj or args.out.with_name(f"mmproj-{args.out.name}")
    export(args.run, args.out, mmproj, args.format)
    for path in (args.out, mmproj):
        print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
