"""The sampling values and the mode of thinking the model cards advise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from loqal.types.sampling import SamplingParams

SMALL_SIZES = frozenset(["0.8B", "2B"])

Mode = tuple[Literal["small", "large"], bool, bool]  # kind of model, thinking, with media

# Per mode: temperature, top_p, presence penalty. The cards of the larger models make no difference for media.
_CARDS: dict[Mode, tuple[float, float, float]] = {
    ("small", False, False): (1.0, 1.0, 2.0),
    ("small", False, True): (0.7, 0.8, 1.5),
    ("small", True, False): (1.0, 0.95, 1.5),
    ("small", True, True): (0.6, 0.95, 0.0),
    ("large", False, False): (0.7, 0.8, 1.5),
    ("large", False, True): (0.7, 0.8, 1.5),
    ("large", True, False): (1.0, 0.95, 1.5),
    ("large", True, True): (1.0, 0.95, 1.5),
}
_ALL_CARDS = {"top_k": 20, "min_p": 0.0, "frequency_penalty": 0.0, "repetition_penalty": 1.0}

# What the family's own generation_config says for every mode. It repeats the thinking row of the cards, so it is no
# statement about the other modes; any other value in a file was chosen by whoever made the file.
_STOCK = {"temperature": 1.0, "top_k": 20, "top_p": 0.95}

# Our name of each value, and its names in generation_config.json and in the keys general.sampling.* of GGUF files.
_NAMES = {
    "temperature": ("temperature", "temp"),
    "top_k": ("top_k",),
    "top_p": ("top_p",),
    "min_p": ("min_p",),
    "presence_penalty": ("presence_penalty", "penalty_present"),
    "frequency_penalty": ("frequency_penalty", "penalty_freq"),
    "repetition_penalty": ("repetition_penalty", "penalty_repeat"),
}


def thinks_by_default(size: str | None) -> bool:
    """Whether a model thinks when neither the caller nor a template decides: all but the two smallest do."""
    return size not in SMALL_SIZES


def resolve(
    params: SamplingParams,
    *,
    size: str | None,
    thinking: bool,
    media: bool,
    file_values: Mapping[str, Any] | None = None,
) -> SamplingParams:
    """Fill every ``None`` that has a default: what the caller says, else the file, else the card.

    Lengths, ``seed``, ``logit_bias`` and ``logprobs`` stay as they are.

    Args:
        params: what the caller said.
        size: the published size, for example ``"4B"``. Unknown sizes get the values of the larger models.
        thinking: whether the reply begins with reasoning.
        media: whether the prompt holds images or videos.
        file_values: ``generation_config.json``, or the ``general.sampling.*`` keys of a GGUF file without that prefix.
    """
    temperature, top_p, presence = _CARDS["small" if size in SMALL_SIZES else "large", thinking, media]
    values: dict[str, Any] = {**_ALL_CARDS, "temperature": temperature, "top_p": top_p, "presence_penalty": presence}
    values |= _chosen(file_values or {})
    values |= {name: getattr(params, name) for name in values if getattr(params, name) is not None}
    return replace(params, **values)


def _chosen(file_values: Mapping[str, Any]) -> dict[str, Any]:
    """The sampling values of a file that differ from what the family's own files say for every mode."""
    chosen: dict[str, Any] = {}
    for ours, names in _NAMES.items():
        for theirs in names:
            value = file_values.get(theirs)
            if value is not None and (ours not in _STOCK or abs(value - _STOCK[ours]) > 1e-6):
                chosen[ours] = int(value) if ours == "top_k" else float(value)
    return chosen
