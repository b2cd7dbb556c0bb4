"""Write a GGUF file of a published size with random weights: real shapes and formats, for measuring speed.

    python bench/synthetic.py 0.8B Q4_K_M /tmp/qwen35-0.8b-q4_k_m.gguf

The recipe gives every tensor the format llama.cpp's quantiser gives it. The vocabulary is a placeholder of the right
length, enough for llama.cpp to open the file as well.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from loqal.model.config import ModelConfig
from loqal.model.sizes import SIZES
from loqal.model.tensor_names import Entry, entries
from loqal.quant import FORMATS, encode, random_blocks
from loqal.testing import tensor_values
from loqal.weights import gguf_writer
from loqal.weights.config_gguf import write_config
from loqal.weights.source import OutTensor


def more_bits(layer: int, num_layers: int) -> bool:
    """The layers that llama.cpp's _M recipes give more bits: the first and last eighth and every third between."""
    eighth = num_layers // 8
    return layer < eighth or layer >= 7 * eighth or (layer - eighth) % 3 == 2


def q4_k_m(entry: Entry, layer: int, num_layers: int) -> str:
    """Q4_K, with Q6_K for the head and, in every second layer or so, values, fused projections and down."""
    if entry.name in ("embed", "output"):
        return "Q6_K"
    sensitive = entry.suffix in ("attention.value", "delta.qkv", "mlp.down", "experts.down")
    return "Q6_K" if sensitive and more_bits(layer, num_layers) else "Q4_K"


RECIPES: dict[str, Callable[[Entry, int, int], str]] = {"Q4_K_M": q4_k_m}


def format_of(entry: Entry, config: ModelConfig, recipe: str) -> str:
    """The stored format of one tensor."""
    if entry.f32 or len(entry.shape) == 1:
        return "F32"
    parts = entry.name.split(".")
    layer = int(parts[1]) if parts[0] == "layers" else 0
    chosen = RECIPES[recipe](entry, layer, len(config.layers)) if recipe in RECIPES else recipe
    return chosen if entry.shape[-1] % FORMATS[chosen].block_len == 0 else "Q8_0"


CONTROL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>"),
    *("<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>"),
    *("<|image_pad|>", "<|video_pad|>", "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>"),
    *("<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>"),
    *("<think>", "</think>", "<|audio_start|>", "<|audio_end|>", "<tts_pad>", "<tts_text_bos>", "<tts_text_eod>"),
    *("<tts_text_bos_single>", "<|audio_pad|>"),
)
"""The family's added tokens, in the order of their ids from 248044."""


def vocabulary(vocab_size: int, num_merges: int = 247_587) -> dict[str, object]:
    """A vocabulary of the published size: bytes, pairs of bytes, triples, the control tokens, filler."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in visible]
    names = {byte: chr(byte) for byte in visible} | {byte: chr(256 + i) for i, byte in enumerate(hidden)}
    singles = [names[byte] for byte in range(256)]
    pairs = [(left, right) for left in singles for right in singles]
    triples = ((left + right, last) for left, right in pairs for last in singles)
    merges = [*pairs, *itertools.islice(triples, num_merges - len(pairs))]
    tokens = [*singles, *(left + right for left, right in merges)]
    first_control = 248_044
    tokens += [f"[PAD{i}]" for i in range(len(tokens), first_control)]
    tokens += CONTROL
    tokens += [f"[PAD{i}]" for i in range(len(tokens), vocab_size)]
    kinds = np.full(vocab_size, 5, np.int32)
    kinds[: 256 + num_merges] = 1
    kinds[first_control : first_control + len(CONTROL)] = 3
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen35",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": [f"{left} {right}" for left, right in merges],
        "tokenizer.ggml.eos_token_id": first_control + 2,
        "tokenizer.ggml.padding_token_id": first_control,
        "tokenizer.ggml.add_bos_token": False,
    }


def write(path: Path, config: ModelConfig, recipe: str, seed: int = 0) -> None:
    """Write the file. Big matrices are random blocks; small tensors have the spread of real ones."""
    rng = np.random.default_rng(seed)
    tensors = []
    for entry in entries(config):
        if entry.part == "vision":
            continue
        stored = format_of(entry, config, recipe)
        if stored == "F32":
            data = encode("F32", tensor_values(entry, rng))
        else:
            data = random_blocks(stored, entry.shape, rng, entry.shape[-1] ** -0.5)
        shape = entry.shape[1:] if entry.suffix == "experts.shared_router" else entry.shape
        tensors.append(OutTensor(entry.gguf, stored, shape, data))
    keys = {"general.type": "model", "general.name": path.stem, **write_config(config), **vocabulary(config.vocab_size)}
    gguf_writer.write_file(path, keys, tensors)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", choices=SIZES)
    parser.add_argument("recipe", help="Q4_K_M, or one format for all matrices")
    parser.add_argument("path", type=Path)
    parser.add_argument("--no-draft", action="store_true", help="leave the draft head out")
    given = parser.parse_args()
    config = SIZES[given.size]
    if given.no_draft:
        config = dataclasses.replace(config, num_draft_layers=0)
    write(given.path, config, given.recipe)


if __name__ == "__main__":
    main()
