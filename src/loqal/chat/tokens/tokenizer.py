"""Text to token ids and back, for the family's byte-level BPE vocabulary.

The control tokens (turn markers, tool tags, media slots) are kept outside the BPE vocabulary. They are looked for in
template text only, so no text of a caller can produce one. Ordinary text between two control tokens is encoded as one
run, whichever segments it came from, because the merges of a word may cross the border between template and content.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

import numpy as np
from tokenizers import Regex, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as BpeTokenizer

from loqal.chat.template.segments import Segment
from loqal.errors import FormatError, RequestError, UnsupportedError

# How text is cut into words before merging. The family joins combining marks to words (\p{M}); qwen2 does not.
PRE_SPLITS = {
    "qwen35": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
        r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    "qwen2": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
}

# Control tokens whose text belongs to a reply. Model files of the GGUF format do not record this, so it is stated here.
SHOWN = frozenset(
    (
        *("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>"),
        *("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"),
    )
)
END_TOKENS = ("<|im_end|>", "<|endoftext|>")

_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5  # token types of the GGUF format

# In the vocabulary every byte is written as one printable character: itself, or the next free one from U+0100 on.
_PRINTABLE = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
_BYTE_OF = {byte: byte for byte in sorted(_PRINTABLE)} | {
    0x100 + i: byte for i, byte in enumerate(byte for byte in range(256) if byte not in _PRINTABLE)
}


class Tokenizer:
    """The vocabulary of one checkpoint.

    Attributes:
        special_ids: id of every control token by its text.
        hidden_ids: those of them that are no part of a reply's text (turn markers, media slots).
        eos_ids: ids that end a reply: the family's two end tokens and the one the file declares.
        vocab_len: one past the last id that has a token. Rows of the model beyond it are padding.
    """

    def __init__(
        self,
        vocab: dict[str, int],
        merges: list[tuple[str, str]],
        special_ids: Mapping[str, int],
        *,
        pre: str = "qwen35",
        hidden_ids: Iterable[int] = (),
        eos_ids: Iterable[int] = (),
    ) -> None:
        """Build from a vocabulary without control tokens, its merges by rank, and the control tokens.

        Raises:
            UnsupportedError: ``pre`` is not a known way to cut words.
            FormatError: vocabulary, merges and control tokens contradict each other.
        """
        if pre not in PRE_SPLITS:
            raise UnsupportedError(
                f"The tokenizer cuts words by the rule {pre!r}.",
                f"loqal knows {', '.join(PRE_SPLITS)}. Another rule would silently change the token ids.",
                "Use a model file of the Qwen 3.5 family.",
            )
        try:
            self._bpe = BpeTokenizer(models.BPE(vocab, merges))
        except Exception as error:  # the library raises bare exceptions
            raise _bad_vocabulary(str(error)) from error
        self._bpe.normalizer = normalizers.NFC()
        self._bpe.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(PRE_SPLITS[pre]), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        self.special_ids = dict(special_ids)
        self.hidden_ids = frozenset(hidden_ids)
        self.eos_ids = frozenset(eos_ids) | {self.special_ids[name] for name in END_TOKENS if name in self.special_ids}
        self._special_text = {token_id: text for text, token_id in self.special_ids.items()}
        self._text_of = _texts_by_id(vocab, self.special_ids)
        self.vocab_len = len(self._text_of)
        longest_first = sorted(self.special_ids, key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    @classmethod
    def from_gguf(cls, metadata: Mapping[str, Any]) -> Tokenizer:
        """Build from the ``tokenizer.ggml.*`` keys of a GGUF file. Raises ``CheckpointError`` kinds."""
        model = _field(metadata, "tokenizer.ggml.model")
        if model != "gpt2":
            raise UnsupportedError(
                f"The tokenizer is of the kind {model!r}.",
                "loqal reads byte-level BPE, called 'gpt2' in GGUF files.",
                "Use a model file of the Qwen 3.5 family.",
            )
        tokens = list(_field(metadata, "tokenizer.ggml.tokens"))
        types = np.asarray(_field(metadata, "tokenizer.ggml.token_type"))
        if types.shape != (len(tokens),):
            raise _bad_vocabulary(f"{len(tokens)} tokens but token types of shape {types.shape}")
        vocab = {text: token_id for token_id, text in enumerate(tokens)}
        if len(vocab) < len(tokens):
            raise _bad_vocabulary(f"{len(tokens)} tokens, but only {len(vocab)} different ones")
        special: dict[str, int] = {}
        hidden: list[int] = []
        for token_id in np.flatnonzero(types != _NORMAL).tolist():
            text, kind = tokens[token_id], int(types[token_id])
            del vocab[text]
            if kind not in (_CONTROL, _USER_DEFINED, _UNUSED):
                raise _bad_vocabulary(f"token {token_id} has the type {kind}")
            if kind != _UNUSED and text != f"[PAD{token_id}]":  # some files mark filler as user defined
                special[text] = token_id
                if kind == _CONTROL and text not in SHOWN:
                    hidden.append(token_id)
        eos = metadata.get("tokenizer.ggml.eos_token_id")
        return cls(
            vocab,
            _pairs(_field(metadata, "tokenizer.ggml.merges")),
            special,
            pre=_field(metadata, "tokenizer.ggml.pre"),
            hidden_ids=hidden,
            eos_ids=() if eos is None else (int(eos),),
        )

    @classmethod
    def from_json(cls, data: bytes) -> Tokenizer:
        """Build from the bytes of a ``tokenizer.json``. Raises ``CheckpointError`` kinds."""
        try:
            root = json.loads(data)
            model, added = root["model"], root["added_tokens"]
            special = {token["content"]: int(token["id"]) for token in added}
            hidden = [int(token["id"]) for token in added if token["special"]]
            vocab = {text: token_id for text, token_id in model["vocab"].items() if text not in special}
            merges = _pairs(model["merges"])
            pre = _pre_split_name(root)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _bad_vocabulary(f"tokenizer.json is not as expected: {error!r}") from error
        return cls(vocab, merges, special, pre=pre, hidden_ids=hidden)

    def encode(self, segments: Iterable[Segment]) -> list[int]:
        """Token ids of a prompt. Control tokens come from template segments, and from ids that are given."""
        ids: list[int] = []
        run: list[str] = []
        for (is_template, given), group in groupby(segments, key=lambda segment: (segment.is_template, segment.ids)):
            if given is not None:
                ids += self._encode_run("".join(run)) + list(given)
                run.clear()
                continue
            text = "".join(segment.text for segment in group)
            position = 0
            for match in self._control.finditer(text) if is_template else ():
                run.append(text[position : match.start()])
                ids += self._encode_run("".join(run))
                ids.append(self.special_ids[match[0]])
                run.clear()
                position = match.end()
            run.append(text[position:])
        return ids + self._encode_run("".join(run))

    def encode_text(self, text: str) -> list[int]:
        """Token ids of a caller's text: the characters of a control token stay characters."""
        return self._encode_run(text)

    def encode_with_control(self, text: str) -> list[int]:
        """Token ids of a prompt the user wrote by hand, control tokens included."""
        return self.encode([Segment(text, is_template=True)])

    def decode(self, ids: Iterable[int], *, skip_special: bool = True) -> str:
        """Text of token ids. Bytes that are not UTF-8 become U+FFFD. Raises ``RequestError`` for an unknown id."""
        shown = (i for i in ids if not (skip_special and i in self.hidden_ids))
        return b"".join(map(self.token_bytes, shown)).decode("utf-8", "replace")

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes a token stands for; those of a control token are its name. Raises ``RequestError``."""
        special = self._special_text.get(token_id)
        if special is not None:
            return special.encode()
        text = self._text_of[token_id] if 0 <= token_id < self.vocab_len else None
        if text is None:
            raise RequestError(
                f"The vocabulary has no token with the id {token_id}.",
                f"The vocabulary ends at {self.vocab_len - 1}; rows of the model beyond it are padding.",
                "Use ids that the tokenizer produced.",
            )
        return text.translate(_BYTE_OF).encode("latin-1")

    def all_bytes(self) -> list[bytes]:
        """What every token stands for, by id; empty where there is no token."""
        return [b"" if text is None else self.token_bytes(token_id) for token_id, text in enumerate(self._text_of)]

    def padding_ids(self, num_rows: int) -> list[int]:
        """Ids below ``num_rows``, the rows of the model, that have no token and must never be sampled."""
        gaps = [token_id for token_id, text in enumerate(self._text_of) if text is None]
        return gaps + list(range(self.vocab_len, num_rows))

    def _encode_run(self, text: str) -> list[int]:
        if not text:
            return []
        try:
            ids: list[int] = self._bpe.encode(text, add_special_tokens=False).ids
        except TypeError:  # half of a surrogate pair, which JSON can smuggle in and UTF-8 cannot hold
            whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            ids = self._bpe.encode(whole, add_special_tokens=False).ids
        return ids


def _texts_by_id(vocab: Mapping[str, int], special_ids: Mapping[str, int]) -> list[str | None]:
    """Token texts in id order, ``None`` where no token has the id."""
    texts: list[str | None] = [None] * (1 + max([*vocab.values(), *special_ids.values()], default=-1))
    for text, token_id in (*vocab.items(), *special_ids.items()):
        if texts[token_id] is not None:
            raise _bad_vocabulary(f"{texts[token_id]!r} and {text!r} share the id {token_id}")
        texts[token_id] = text
    return texts


def _pairs(merges: Iterable[Any]) -> list[tuple[str, str]]:
    """Merges by rank, each written either as ``"left right"`` or as a pair."""
    pairs = [tuple(merge.split(" ") if isinstance(merge, str) else merge) for merge in merges]
    for number, pair in enumerate(pairs):
        if len(pair) != 2:
            raise _bad_vocabulary(f"merge {number} has {len(pair)} parts")
    return pairs


def _pre_split_name(root: Mapping[str, Any]) -> str:
    """The key of ``PRE_SPLITS`` a tokenizer.json declares, or a description of what it declares instead."""
    steps = root["pre_tokenizer"].get("pretokenizers", [root["pre_tokenizer"]])
    patterns = [step["pattern"]["Regex"] for step in steps if step["type"] == "Split"]
    for name, pattern in PRE_SPLITS.items():
        if patterns == [pattern] and (root["normalizer"] or {}).get("type") == "NFC":
            return name
    return json.dumps({"normalizer": root["normalizer"], "split": patterns})


def _field(metadata: Mapping[str, Any], key: str) -> Any:
    if key not in metadata:
        raise _bad_vocabulary(f"the key {key} is missing")
    return metadata[key]


def _bad_vocabulary(why: str) -> FormatError:
    return FormatError(
        "The tokenizer of this model cannot be read.", why, "Download the file again, or convert it again."
    )
