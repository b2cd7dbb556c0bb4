"""The byte-level vocabulary of the demonstration model, trained on its own samples.

It splits text as the family does (one digit at a time, combining marks stay with their letters), normalises to NFC and
carries all control tokens of the family, so that programs written for the family find every token they look for.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

import words
from tasks import IM_END, IM_START, Sample, training_sample

SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}|"
    r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
VOCAB_SIZE = 1792  # rows of the embedding; the last few belong to no token
BASE_SIZE = 1750  # bytes and merges
CONTROL = words.listed(
    "<|endoftext|> <|im_start|> <|im_end|> <|object_ref_start|> <|object_ref_end|> <|box_start|> <|box_end|> "
    "<|quad_start|> <|quad_end|> <|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|> <|video_pad|> "
    "<tool_call> </tool_call> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|> <|repo_name|> "
    "<|file_sep|> <tool_response> "
    "</tool_response> <think> </think> <|audio_start|> <|audio_end|> <tts_pad> <tts_text_bos> <tts_text_eod> "
    "<tts_text_bos_single> <|audio_pad|>"
)
# Kept when special tokens are skipped in decoding: they carry structure a parser needs.
VISIBLE = frozenset(
    words.listed(
        "<tool_call> </tool_call> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|> <|repo_name|> <|file_sep|> "
        "<tool_response> </tool_response> <think> </think>"
    )
)


def corpus(seed: int, num_samples: int) -> list[str]:
    """Texts to learn merges from: samples without control tokens, and every word by itself."""
    rng = random.Random(seed)
    samples = [training_sample(rng) for _ in range(num_samples)]
    texts = [text for s in samples for text in (s.user, s.answer, s.reasoning or "")]
    vocabulary = [*words.ITEMS, *words.QUALITIES, *words.OBJECTS, *words.NAMES, *words.CITIES, *words.INTENTS]
    wordings = [wording for label in words.INTENTS.values() for wording in label]
    heads = ["user", "assistant", "system"]
    return (
        texts
        + [form for word in vocabulary for form in (word, f" {word}", f" {word.lower()}")] * 20
        + (wordings + heads) * 40
    )


def train(seed: int = 0, num_samples: int = 20000) -> Tokenizer:
    """Train the tokenizer. Deterministic for a seed and a version of ``tokenizers``."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=BASE_SIZE,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
        min_frequency=2,
    )
    tokenizer.train_from_iterator(corpus(seed, num_samples), trainer)
    base = tokenizer.get_vocab_size()
    if base + len(CONTROL) > VOCAB_SIZE:
        raise ValueError(f"{base} + {len(CONTROL)} tokens do not fit {VOCAB_SIZE} rows")
    document = json.loads(tokenizer.to_str())
    document["added_tokens"] = [
        {
            "id": base + index,
            "content": text,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": text not in VISIBLE,
        }
        for index, text in enumerate(CONTROL)
    ]
    return Tokenizer.from_str(json.dumps(document))


def load(path: Path) -> Tokenizer:
    """Read a tokenizer that ``train`` made, or make it there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        train().save(str(path))
    return Tokenizer.from_file(str(path))


def encode(tokenizer: Tokenizer, sample: Sample) -> tuple[list[int], list[bool]]:
    """Token ids of a sample, and which of them the assistant wrote.

    Prompt and completion are cut apart before they are encoded, as they are in use: the prompt is fixed when the
    first token is generated.
    """
    prompt = tokenizer.encode(sample.prompt(), add_special_tokens=False).ids
    completion = tokenizer.encode(sample.completion(), add_special_tokens=False).ids
    written = [False] * len(prompt)
    header = tokenizer.encode(f"{IM_START}assistant\n", add_special_tokens=False).ids
    (end,) = tokenizer.encode(IM_END, add_special_tokens=False).ids
    starts = [i + len(header) for i in range(len(prompt)) if prompt[i : i + len(header)] == header]
    for start in starts[:-1]:
        stop = prompt.index(end, start)
        written[start : stop + 1] = [True] * (stop + 1 - start)
    return prompt + completion, written + [True] * len(completion)
