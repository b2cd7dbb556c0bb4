"""The byte-level vocabulary of the demonstration model, trained on its own samples.

It splits text as the family does (one digit at a time, combining marks stay with their letters), normalises to NFC and
carries all control tokens of the family, so that programs written for the family find every token they look for.
"""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

import words
from drawing import COLOURS, KINDS, MOVES
from mixture import SHARES, training_sample
from tasks import IM_END, IM_START, Level, Sample
from tasks_text import CALCULATOR, CLOCK, tool_system
from tasks_vision import (
    BOX_FRAMES,
    CHART_FRAMES,
    COUNT_FRAMES,
    DOCUMENT_FRAMES,
    IMAGE_RECEIPT_FRAMES,
    MOTION_FRAMES,
    VISION_TASKS,
)

DRAWN = frozenset(VISION_TASKS)
PICTURE_FRAMES = (DOCUMENT_FRAMES, COUNT_FRAMES, BOX_FRAMES, CHART_FRAMES, MOTION_FRAMES)
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}|"
    r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
VOCAB_SIZE = 2304  # rows of the embedding; the last few belong to no token
BASE_SIZE = 2260  # bytes and merges
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
    # Pictures have no text of their own beside the answers, which other tasks have too.
    texts_only = Level({task: share for task, share in SHARES.items() if task not in DRAWN}, 36, 5, 50)
    samples = [training_sample(rng, texts_only) for _ in range(num_samples)]
    texts = [text for s in samples for text in (s.user, s.answer, s.reasoning or "")]
    vocabulary = [*words.ITEMS, *words.QUALITIES, *words.OBJECTS, *words.NAMES, *words.CITIES, *words.INTENTS]
    questions = [*IMAGE_RECEIPT_FRAMES, *(frame for frames in PICTURE_FRAMES for (frame,) in frames)]
    shapes = [f"{colour} {kind}s, {kind}" for colour in COLOURS for kind in KINDS]
    shapes.append("any shape: a1 b2 c3: red blue no 0 d4 e5: star star yes 1 f6 g7 h8")
    extra = (questions + shapes + list(MOVES)) * 40 + [
        tool_system((CALCULATOR, CLOCK)),
        '{"bbox_2d":["label":"red',
    ] * 200
    wordings = [wording for label in words.INTENTS.values() for wording in label]
    heads = ["user", "assistant", "system"]
    return (
        texts
        + [form for word in vocabulary for form in (word, f" {word}", f" {word.lower()}")] * 20
        + (wordings + heads) * 40
        + extra
    )


def splitter() -> pre_tokenizers.PreTokenizer:
    """How text is cut before merges."""
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def train(seed: int = 0, num_samples: int = 20000) -> Tokenizer:
    """Train the tokenizer. Deterministic for a seed and a version of ``tokenizers``."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = splitter()
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=BASE_SIZE,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
        min_frequency=2,
    )
    # No token takes a line break along with the sign before it: the last line of a copy ends without one.
    lines = pre_tokenizers.Split(Regex(r"[\r\n]+"), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([lines, splitter()])
    tokenizer.train_from_iterator(corpus(seed, num_samples), trainer)
    tokenizer.pre_tokenizer = splitter()
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


def positions_of(ids: list[int], pads: set[int]) -> list[tuple[int, int, int]]:
    """The (time, row, column) of every token: text counts on, a picture's tokens lie in a square and share a time."""
    out: list[tuple[int, int, int]] = []
    index, now = 0, 0
    while index < len(ids):
        stop = index
        while stop < len(ids) and ids[stop] in pads:
            stop += 1
        if stop == index:
            out.append((now, now, now))
            index, now = index + 1, now + 1
            continue
        side = math.isqrt(stop - index)
        out += [(now, now + row, now + column) for row in range(side) for column in range(side)]
        index, now = stop, now + side
    return out
