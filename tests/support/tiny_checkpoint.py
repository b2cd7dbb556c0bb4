"""A tiny random model with a vocabulary of bytes, as files: enough to talk to, in milliseconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from loqal.testing import checkpoints

CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<tool_call>", "</tool_call>"]
CONTROL += ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
NUM_TOKENS = 256 + len(CONTROL)
END_IDS = {256, 258}
_PRINTABLE = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}


def byte_tokens() -> list[str]:
    """The 256 tokens of one byte, token id = byte, in the spelling of byte-level vocabularies."""
    others = [byte for byte in range(256) if byte not in _PRINTABLE]
    return [chr(byte) if byte in _PRINTABLE else chr(0x100 + others.index(byte)) for byte in range(256)]


def gguf(path: Path, metadata: dict[str, Any] | None = None, formats: str = "F32", **overrides: Any) -> Path:
    """Write the model as a GGUF file; its embedding has more rows than there are tokens."""
    config = checkpoints.tiny_config(**overrides)
    keys = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen35",
        "tokenizer.ggml.tokens": byte_tokens() + CONTROL,
        "tokenizer.ggml.token_type": np.array(
            [1] * 256 + [3 if text.startswith("<|") else 4 for text in CONTROL], np.int32
        ),
        "tokenizer.ggml.merges": [],
        "tokenizer.ggml.eos_token_id": 258,
    }
    mmproj = path.with_name("mmproj-" + path.name) if config.vision is not None else None
    return checkpoints.write_gguf(
        path, config, checkpoints.random_tensors(config), formats, metadata={**keys, **(metadata or {})}, mmproj=mmproj
    )


def safetensors(folder: Path, **overrides: Any) -> Path:
    """Write the same model as a checkpoint folder with the same vocabulary."""
    config = checkpoints.tiny_config(**overrides)
    checkpoints.write_safetensors(folder, config, checkpoints.random_tensors(config))
    split = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
        r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    tokenizer = {
        "added_tokens": [
            {"id": 256 + index, "content": text, "special": text.startswith("<|")} for index, text in enumerate(CONTROL)
        ],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{"type": "Split", "pattern": {"Regex": split}}, {"type": "ByteLevel"}],
        },
        "model": {"vocab": {text: byte for byte, text in enumerate(byte_tokens())}, "merges": []},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>"}))
    return folder
