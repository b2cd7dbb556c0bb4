"""The models whose logits are recorded, and the form of a recording. Needs no torch.

Weights come from a seed, so that a recording holds token ids and a few rows of logits alone. NumPy keeps the streams of
its generators stable but does not promise it: a recording carries a digest of its weights, and a test whose weights
differ says so instead of blaming the network.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from loqal.model.config import Mixer, ModelConfig, YarnConfig
from loqal.model.sizes import SIZES, layer_pattern
from loqal.testing.checkpoints import random_tensors, tiny_config

FOLDER = Path(__file__).parent
BOUNDS = {32: 2e-5, 16: 1e-3}
"""Bits of the stored keys and values -> largest error of a logit, in standard deviations of the reference's logits."""

GREEDY_TOKENS = 64
ROWS_KEPT = 8


@dataclass(frozen=True)
class Case:
    """One model and one prompt. ``image_at`` gives 4 x 6 of its tokens, from there on, the positions of an image.

    With a tied head, large random embeddings make the last token the likeliest next one; ``embed_scale`` makes them
    small, so that the continuation depends on the layers.
    """

    name: str
    config: ModelConfig
    prompt_len: int = 48
    seed: int = 1
    image_at: int | None = None
    embed_scale: float = 1.0

    @property
    def num_tokens(self) -> int:
        """Prompt and continuation together."""
        return self.prompt_len + GREEDY_TOKENS

    def tensors(self) -> dict[str, npt.NDArray[np.float32]]:
        """The weights by our names."""
        tensors = random_tensors(self.config, self.seed)
        tensors["embed"] *= np.float32(self.embed_scale)
        return tensors

    def prompt(self) -> npt.NDArray[np.int32]:
        """Token ids [prompt_len]."""
        return np.random.default_rng(0).integers(0, self.config.vocab_size, self.prompt_len).astype(np.int32)

    def positions(self) -> npt.NDArray[np.int32]:
        """Rotary positions of prompt and continuation, [num_tokens 3]."""
        positions = np.repeat(np.arange(self.num_tokens, dtype=np.int32)[:, None], 3, axis=1)
        if self.image_at is not None:
            start, end = self.image_at, self.image_at + 24
            row, column = np.divmod(np.arange(24), 6)
            positions[start:end] = start + np.stack([np.zeros_like(row), row, column], axis=1)
            positions[end:] += 6 - 24
        return positions


def _cut(size: str, layers: tuple[Mixer, ...], ffn_width: int) -> ModelConfig:
    """A published size with its width and heads, but few layers and few tokens."""
    config = replace(SIZES[size], layers=layers, ffn_width=ffn_width, vision=None, num_draft_layers=0)
    return replace(config, vocab_size=512, tied_head=False)


_TINY = tiny_config("dense", num_heads=4, num_kv_heads=2, tied_head=False)
_YARN = replace(_TINY.rope, yarn=YarnConfig(factor=4.0, original_context=128))

CASES = {
    case.name: case
    for case in (
        Case("dense", replace(_TINY, num_draft_layers=1), prompt_len=600),
        Case("moe", tiny_config("moe", num_heads=4, num_kv_heads=2, num_draft_layers=1), prompt_len=100),
        Case("yarn", replace(_TINY, rope=_YARN, context_len=512), prompt_len=300),
        Case("image", replace(_TINY, tied_head=True), image_at=17, embed_scale=1 / 2),
        Case("0.8B", _cut("0.8B", layer_pattern(4), 3584)),
        Case("4B", _cut("4B", ("delta", "attention"), 1536)),
    )
}
"""The tiny models and ``4B`` have twice as many value heads as key heads."""


@dataclass(frozen=True)
class Recording:
    """What the reference computed in float32: N tokens of prompt and greedy continuation.

    ``margins[g]`` is by how much the logit of the g-th generated token led, ``std`` the deviation of all logits. The
    draft head (empty arrays without one) was given the hidden row of every token but the last, paired with the next
    token; ``chained`` is its guess one further, from its own last row and the token that row thinks likeliest.
    """

    digest: int
    ids: npt.NDArray[np.int32]  # [N]
    rows: npt.NDArray[np.int32]  # [R]
    logits: npt.NDArray[np.float32]  # [R V]
    std: float
    margins: npt.NDArray[np.float32]  # [GREEDY_TOKENS]
    draft_rows: npt.NDArray[np.int32]
    draft_logits: npt.NDArray[np.float32]
    chained: npt.NDArray[np.float32]  # [V]

    @staticmethod
    def load(name: str) -> Recording:
        """The committed recording of a case."""
        with np.load(FOLDER / f"logits_{name}.npz") as file:
            scalars = {"digest": int(file["digest"]), "std": float(file["std"])}
            return Recording(**{**{key: file[key] for key in file.files}, **scalars})

    def save(self, name: str) -> None:
        """Write it beside this module."""
        arrays: dict[str, Any] = {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}
        np.savez_compressed(FOLDER / f"logits_{name}.npz", **arrays)


def digest(tensors: Mapping[str, npt.NDArray[np.float32]]) -> int:
    """A checksum of all weights."""
    crc = 0
    for values in tensors.values():
        crc = zlib.crc32(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data, crc)
    return crc


def rows_to_keep(case: Case, count: int) -> npt.NDArray[np.int32]:
    """The first rows, the ends of prompt and sequence, and some between."""
    ends = {0, 1, 2, case.prompt_len - 1, case.prompt_len, count - 1}
    between = np.linspace(3, count - 2, ROWS_KEPT - len(ends)).astype(int).tolist()
    return np.array(sorted(ends | set(between)), np.int32)
