"""The tokenizer of a safetensors checkpoint as the metadata of a GGUF file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np

from loqal.errors import FormatError

_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5  # token types of the format


def vocabulary_keys(
    tokenizer_json: bytes, num_rows: int, eos_ids: Iterable[int], template: str | None
) -> dict[str, Any]:
    """The keys ``tokenizer.*``. Rows of the model without a token are filler.

    Raises:
        FormatError: the tokenizer is not a byte-level BPE, or does not fit the model.
    """
    try:
        document = json.loads(tokenizer_json)
        tokens, types = [f"[PAD{index}]" for index in range(num_rows)], [_UNUSED] * num_rows
        for text, index in document["model"]["vocab"].items():
            tokens[index], types[index] = text, _NORMAL
        for added in document["added_tokens"]:
            tokens[added["id"]], types[added["id"]] = added["content"], _CONTROL if added["special"] else _USER_DEFINED
        merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in document["model"]["merges"]]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise FormatError(
            "tokenizer.json cannot be written into a GGUF file.",
            f"{type(error).__name__}: {error}.",
            "Fetch the file again; it must belong to this model.",
        ) from None
    ids = {text: index for index, text in enumerate(tokens)}
    ends = [ids[text] for text in ("<|im_end|>",) if text in ids] or list(eos_ids)
    keys: dict[str, Any] = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen35",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": np.array(types, np.int32),
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.add_bos_token": False,
    }
    if ends:
        keys["tokenizer.ggml.eos_token_id"] = ends[0]
    if "<|endoftext|>" in ids:
        keys["tokenizer.ggml.padding_token_id"] = ids["<|endoftext|>"]
    if template is not None:
        keys["tokenizer.chat_template"] = template
    return keys
