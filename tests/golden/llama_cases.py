"""The small models that llama.cpp converts, quantizes and runs, and a recording of one. Needs no llama.cpp."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from loqal.model.config import ExpertsConfig, ModelConfig
from loqal.testing.checkpoints import random_tensors, tiny_config

FOLDER = Path(__file__).parent
SHARPNESS = 4
"""Factor of the output head: a random one gives flat distributions, and a text is not flat."""


@dataclass(frozen=True)
class LlamaCase:
    """One model, always with an untied head: tied random weights repeat the last token with certainty."""

    config: ModelConfig
    num_tokens: int
    seed: int = 3

    def tensors(self) -> dict[str, npt.NDArray[np.float32]]:
        """The weights by our names."""
        tensors = random_tensors(self.config, self.seed)
        return {**tensors, "output": tensors["output"] * np.float32(SHARPNESS)}

    def ids(self) -> npt.NDArray[np.int32]:
        """Token ids [num_tokens], text tokens only."""
        return np.random.default_rng(0).integers(0, 256, self.num_tokens).astype(np.int32)


_WIDE = tiny_config("dense", width=256, ffn_width=512, tied_head=False, num_draft_layers=1)
_MOE = replace(_WIDE, ffn_width=None, experts=ExpertsConfig(4, 4, 256, 256))

DENSE = LlamaCase(_WIDE, 512)
"""Every matrix has rows of 256 or 512 values, so that K-quants apply to all of them."""

MOE = LlamaCase(_MOE, 512)
"""All experts are active: a choice among them turns around with the smallest rounding, and chance would be compared."""

SMALL = LlamaCase(
    tiny_config(
        "dense",
        width=128,
        layers=("delta", "attention"),
        ffn_width=256,
        vocab_size=260,
        num_heads=1,
        num_key_heads=1,
        num_value_heads=2,
        tied_head=False,
    ),
    64,
)
"""The committed file. Rows of 128 values make the quantizer fall back to formats with shorter blocks for some."""

SMALL_FILE = FOLDER / "llama_cpp_q4_k_m.gguf"


@dataclass(frozen=True)
class LlamaRecording:
    """What llama.cpp computed from ``SMALL_FILE`` and from the F32 file it was made of, for ``SMALL.ids()``."""

    digest: int  # of the weights
    quantised: npt.NDArray[np.float16]  # [N V] logits; spelled as in the recorded archive
    exact: npt.NDArray[np.float16]  # [N V] logits of the F32 file

    @staticmethod
    def load() -> LlamaRecording:
        with np.load(FOLDER / "llama_cpp.npz") as file:
            return LlamaRecording(int(file["digest"]), file["quantised"], file["exact"])

    def save(self) -> None:
        arrays: dict[str, Any] = {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}
        np.savez_compressed(FOLDER / "llama_cpp.npz", **arrays)


def divergence(exact: npt.NDArray[np.floating], other: npt.NDArray[np.floating]) -> float:
    """The mean KL divergence of next-token distributions, in nats, from logits [N V]."""
    p, q = (_log_softmax(logits.astype(np.float64)) for logits in (exact, other))
    return float((np.exp(p) * (p - q)).sum(axis=1).mean())


def _log_softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    shifted = logits - logits.max(axis=1, keepdims=True)
    result: npt.NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result
