"""Reads fields of a configuration, whatever file it came from: missing, mistyped or absurd values become our errors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from loqal.errors import FormatError, UnsupportedError
from loqal.model.config import ModelConfig

MAX_COUNT = 1 << 24  # no width, count or length of a config.json comes near; products of a few stay far from overflow

_MISSING = object()


class Fields:
    """Typed access to a mapping. ``where`` is named in messages, for example ``config.json: text_config``."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.values, self.where = values, where

    def count(self, key: str, default: int | None = None, *, least: int = 1, most: int = MAX_COUNT) -> int:
        """A whole number in ``least .. most``."""
        value = self.values.get(key)
        if value is None and default is not None:
            return default
        if value is None:
            raise self.missing(key)
        if type(value) is not int or not least <= value <= most:
            raise self.wrong(key, f"a whole number from {least} to {most}")
        return value

    def real(self, key: str, default: float | None = None) -> float:
        """A finite positive number."""
        value = self.values.get(key)
        if value is None and default is not None:
            return default
        if value is None:
            raise self.missing(key)
        if type(value) not in (int, float) or not 0 < value < 1e30 or not math.isfinite(value):
            raise self.wrong(key, "a positive number")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self.values.get(key)
        if value is None:
            return default
        if type(value) is not bool:
            raise self.wrong(key, "true or false")
        return value

    def table(self, key: str) -> Fields | None:
        """A nested mapping, or ``None`` when there is none."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise self.wrong(key, "a table")
        return Fields(value, f"{self.where}: {key}")

    def counts(self, key: str) -> tuple[int, ...] | None:
        """A short list of whole numbers, or ``None`` when there is none."""
        value = self.values.get(key)
        if value is None:
            return None
        items = value.tolist() if hasattr(value, "tolist") else value
        if not isinstance(items, list) or not all(type(item) is int and 0 <= item <= MAX_COUNT for item in items):
            raise self.wrong(key, "a list of whole numbers")
        return tuple(items)

    def only(self, key: str, *allowed: Any) -> None:
        """Refuse a value loqal does not implement; an absent key is fine."""
        value = self.values.get(key, _MISSING)
        if value is not _MISSING and not any(type(value) is type(choice) and value == choice for choice in allowed):
            wanted = " or ".join(repr(choice) for choice in allowed if choice is not None)
            raise UnsupportedError(
                f"{self.where}: {key} is {_short(value)}.", f"loqal runs models where it is {wanted}.", _OTHER
            )

    def missing(self, key: str) -> FormatError:
        """The error for an absent key."""
        return FormatError(f"{self.where}: {key} is missing.", "The shape of the model depends on it.", _OTHER)

    def wrong(self, key: str, wanted: str) -> FormatError:
        """The error for a value of the wrong kind."""
        return FormatError(f"{self.where}: {key} is {_short(self.values.get(key))}.", f"It must be {wanted}.", _OTHER)


_OTHER = "Use an unmodified checkpoint of the Qwen 3.5 family."


def _short(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 100 else text[:97] + "..."


def check_config(config: ModelConfig, where: str) -> ModelConfig:
    """Return ``config`` when its numbers fit each other.

    Raises:
        UnsupportedError: they do not.
    """
    rope = config.rope
    rules = [
        (len(config.layers) <= 1024, "It has more than 1024 layers."),
        (
            config.num_heads % config.num_kv_heads == 0,
            "Query heads do not divide evenly among key heads.",
        ),
        (
            config.num_value_heads % config.num_key_heads == 0,
            "Linear value heads do not divide evenly among key heads.",
        ),
        (rope.rotary_dim % 2 == 0 and rope.rotary_dim <= config.head_dim, "Rotary dimensions do not fit the head."),
        (2 * sum(rope.sections) == rope.rotary_dim, "Rotary sections do not add up to half the rotary dimensions."),
        (config.num_draft_layers <= 1, "It has more than one draft layer."),
    ]
    if config.experts is not None:
        rules.append((config.experts.num_active <= config.experts.num_experts, "More experts are active than exist."))
        rules.append((config.experts.num_experts <= 1024, "It has more than 1024 experts."))
    if config.vision is not None:
        vision = config.vision
        rules += [
            (vision.depth <= 1024, "Its vision tower has more than 1024 layers."),
            (vision.out_width == config.width, "The output width of the vision tower is not the width of the model."),
            (
                vision.width % (4 * vision.num_heads) == 0,
                "Four times the vision heads do not divide the width.",
            ),
            (
                math.isqrt(vision.num_positions) ** 2 == vision.num_positions,
                "Vision positions do not form a square.",
            ),
            (vision.patch_size <= 1024 and vision.merge_size <= 64, "Its patches are too large."),
        ]
    for holds, problem in rules:
        if not holds:
            raise UnsupportedError(f"{where} describes a model loqal cannot run.", problem, _OTHER)
    return config
