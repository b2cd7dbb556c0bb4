"""A small vocabulary of the family's kind, trained on the spot, for tests of everything that turns text into ids."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as BpeTokenizer

from loqal.chat.tokens.tokenizer import PRE_SPLITS, Tokenizer

HIDDEN = [
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>"),
    *("<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>"),
    *("<|image_pad|>", "<|video_pad|>"),
]
SHOWN = [
    *("<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>"),
    *("<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>", "<think>", "</think>"),
]
AUDIO = [
    *("<|audio_start|>", "<|audio_end|>", "<tts_pad>", "<tts_text_bos>", "<tts_text_eod>", "<tts_text_bos_single>"),
    "<|audio_pad|>",
]
SPECIAL = [*HIDDEN, *SHOWN, *AUDIO]
NUM_PADDING = 7

TEXTS = [
    "user\n\n\nsystem\n\nassistant\n tool_call tool_response think function parameter im_start im_end",
    "The quick brown fox doesn't jump over 12 lazy dogs; they're asleep, aren't they?",
    "<function=look_up>\n<parameter=word>\nvalue\n</parameter>\n</function>\n",
    "Ünïcödé naïve café é नमस्ते สวัสดี שלום 你好 世界 🦊🦊",
    "if a < b:\n    print('x')\n    return {'k': [1, 2, 3]}\n\n",
    '{"type": "function", "name": "weather", "parameters": {}}',
] * 4


def pre_tokenizer(pre: str = "qwen35") -> pre_tokenizers.PreTokenizer:
    split = pre_tokenizers.Split(Regex(PRE_SPLITS[pre]), "isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


@cache
def base() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges without control tokens."""
    bpe = BpeTokenizer(models.BPE())
    bpe.normalizer, bpe.pre_tokenizer = normalizers.NFC(), pre_tokenizer()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False))
    model = json.loads(bpe.to_str())["model"]
    return model["vocab"], [(left, right) for left, right in model["merges"]]


def gguf_metadata() -> dict[str, Any]:
    """The vocabulary as a GGUF file declares it."""
    vocab, merges = base()
    tokens = [*sorted(vocab, key=lambda text: vocab[text]), *SPECIAL]
    types = [1] * len(vocab) + [4 if text in SHOWN and "|" not in text else 3 for text in SPECIAL]
    padding = [f"[PAD{len(tokens) + i}]" for i in range(NUM_PADDING)]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen35",
        "tokenizer.ggml.tokens": tokens + padding,
        "tokenizer.ggml.token_type": types + [5] * NUM_PADDING,
        "tokenizer.ggml.merges": [f"{left} {right}" for left, right in merges],
        "tokenizer.ggml.eos_token_id": tokens.index("<|im_end|>"),
    }


@cache
def reference() -> BpeTokenizer:
    """The same vocabulary in the plain library, control tokens found anywhere in a text."""
    vocab, merges = base()
    bpe = BpeTokenizer(models.BPE(vocab, merges))
    bpe.normalizer, bpe.pre_tokenizer = normalizers.NFC(), pre_tokenizer()
    bpe.decoder = decoders.ByteLevel()
    bpe.add_tokens([AddedToken(text, normalized=False, special=text not in SHOWN) for text in SPECIAL])
    return bpe


def tokenizer_json() -> bytes:
    """The vocabulary as a tokenizer.json."""
    return reference().to_str().encode()


@cache
def tokenizer() -> Tokenizer:
    return Tokenizer.from_gguf(gguf_metadata())
