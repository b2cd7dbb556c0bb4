"""Vocabularies of random checkpoints, as a GGUF file declares them."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

_SYLLABLES = [c + v for c in "bcdfghklmnprstvw" for v in "aeiou"] + ["ing", "er", "tion", "ed", "al", "en", "st", "th"]
_MARKS = "{}[]()\"'\\/:;,.<>=+-*&|!? \n\t"
_SCRIPTS = (0x400, 0x5D0, 0x627, 0x905, 0xE01, 0xAC00)


def placeholder_vocabulary(size: int) -> dict[str, Any]:
    """Byte tokens, a few special ones, and filler up to ``size`` tokens."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in visible]
    names = {byte: chr(byte) for byte in visible} | {byte: chr(256 + i) for i, byte in enumerate(hidden)}
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_pad|>", "<think>", "</think>"]
    marks = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    merged = {"a b": "ab", "c d": "cd"}
    known = [names[byte] for byte in range(256)] + special + list(merged.values()) + marks
    tokens = known + [f"[PAD{index}]" for index in range(len(known), size)]
    kinds = np.full(size, 5, np.int32)  # unused
    kinds[:256] = 1  # normal
    kinds[256 : len(known)] = 3  # control
    kinds[256 + len(special) : len(known) - len(marks)] = 1
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen35",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": list(merged),
        "tokenizer.ggml.eos_token_id": 258,
        "tokenizer.ggml.padding_token_id": 256,
        "tokenizer.ggml.add_bos_token": False,
    }


def large_vocabulary(size: int = 248_320, seed: int = 0) -> dict[str, Any]:
    """A vocabulary as a GGUF file declares it, with the length and the kinds of tokens of the published one.

    Words with and without a space before them, several scripts and runs of marks, but no merges: it serves to measure
    what goes over all tokens, not to write.
    """
    rng = random.Random(seed)
    names = placeholder_vocabulary(300)["tokenizer.ggml.tokens"][:256]
    of_byte = dict(zip(range(256), names, strict=True))
    control = [
        *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<tool_call>", "</tool_call>"),
        *("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"),
    ]
    words: dict[str, None] = dict.fromkeys(names)
    while len(words) < size - len(control):
        text = _random_word(rng)
        words["".join(of_byte[byte] for byte in text.encode())] = None
    tokens = [*words, *control]
    kinds = np.full(size, 1, np.int32)
    kinds[len(words) :] = 3
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen35",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": [],
        "tokenizer.ggml.eos_token_id": tokens.index("<|im_end|>"),
    }


def _random_word(rng: random.Random) -> str:
    roll = rng.random()
    if roll < 0.22:
        return "".join(chr(rng.randrange(0x4E00, 0x9FA5)) for _ in range(rng.randint(1, 4)))
    if roll < 0.35:
        first = rng.choice(_SCRIPTS)
        return " " * (rng.random() < 0.5) + "".join(chr(first + rng.randrange(26)) for _ in range(rng.randint(2, 8)))
    if roll < 0.4:
        return "".join(rng.choice(_MARKS) for _ in range(rng.randint(2, 6)))
    word = "".join(rng.choice(_SYLLABLES) for _ in range(rng.randint(1, 5)))
    word = word.capitalize() if rng.random() < 0.3 else word
    return " " * (rng.random() < 0.5) + word + '"' * (rng.random() < 0.03)
