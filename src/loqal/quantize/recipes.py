"""Which tensor is stored in which format, by the name of a mixture.

What this family is sensitive to decides the rows below: the output projection of the recurrent mixer most of all, then
the projections of both mixers; gate and up of the feed-forward network least, down a little more. The two small
projections that steer the state (alpha, beta) cost nothing and stay at eight bits. The embedding bears few bits, but it
is also the head of the small sizes. ``_K_S``, ``_K_M`` and ``_K_L`` follow llama.cpp's mixtures of the same name where
their rules are about these tensors; ``_XL`` protect the mixers and pay with the feed-forward network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from loqal.errors import RequestError
from loqal.formats import FORMATS
from loqal.model.config import ModelConfig
from loqal.model.tensor_names import Entry

STATE_GATES = ("delta.alpha", "delta.beta")
"""Small projections that steer the recurrent state: they cost nothing and stay precise."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A mixture.

    ``tensors`` maps suffixes of names (``mlp.down``, ``attention.value``) to formats; a pair is the format of the
    layers that get more bits (the first and last eighth and every third between) and that of the others.
    """

    base: str
    head: str  # of the head, which is the embedding where both are one
    embedding: str  # of an embedding that is not the head
    tensors: Mapping[str, str | tuple[str, str]] = field(default_factory=dict)


def _mlp(gate_up: str, down: str | tuple[str, str], shared: str) -> dict[str, str | tuple[str, str]]:
    """Feed-forward networks, dense and of experts; the shared expert sees every token and gets ``shared``."""
    found: dict[str, str | tuple[str, str]] = {"mlp.down": down, "experts.down": down}
    found |= dict.fromkeys(("mlp.gate", "mlp.up", "experts.gate", "experts.up"), gate_up)
    found |= dict.fromkeys(("experts.shared_gate", "experts.shared_up", "experts.shared_down"), shared)
    return found


def _mixers(out: str, value: str, others: str) -> dict[str, str]:
    """The projections of both mixers: the recurrent output, the attention's values and output, all others."""
    found = dict.fromkeys(("delta.qkv", "delta.z", "attention.query", "attention.key"), others)
    return found | {"delta.out": out, "attention.value": value, "attention.out": value}


RECIPES: dict[str, Recipe] = {
    "Q2_K": Recipe(
        "Q2_K",
        "Q6_K",
        "Q2_K",
        {
            **_mlp("Q2_K", "Q3_K", "Q4_K"),
            "attention.value": "Q4_K",
            "attention.out": "Q3_K",
            "delta.qkv": "Q3_K",
            "delta.out": "Q4_K",
        },
    ),
    "Q3_K_S": Recipe("Q3_K", "Q6_K", "Q3_K", {"delta.out": "Q4_K"}),
    "Q3_K_M": Recipe(
        "Q3_K",
        "Q6_K",
        "Q3_K",
        {
            **_mlp("Q3_K", ("Q4_K", "Q3_K"), "Q4_K"),
            "attention.value": "Q4_K",
            "attention.out": "Q4_K",
            "delta.qkv": "Q4_K",
            "delta.out": "Q5_K",
        },
    ),
    "Q3_K_L": Recipe(
        "Q3_K",
        "Q6_K",
        "Q3_K",
        {
            **_mlp("Q3_K", "Q5_K", "Q5_K"),
            "attention.value": "Q5_K",
            "attention.out": "Q5_K",
            "delta.qkv": "Q4_K",
            "delta.out": "Q5_K",
        },
    ),
    "Q4_K_S": Recipe("Q4_K", "Q6_K", "Q4_K", {"attention.value": "Q5_K", "delta.out": "Q5_K"}),
    "Q4_K_M": Recipe(
        "Q4_K",
        "Q6_K",
        "Q4_K",
        {
            **_mlp("Q4_K", ("Q6_K", "Q4_K"), "Q5_K"),
            "attention.value": ("Q6_K", "Q4_K"),
            "delta.qkv": ("Q6_K", "Q4_K"),
        },
    ),
    "Q5_K_S": Recipe("Q5_K", "Q6_K", "Q5_K"),
    "Q5_K_M": Recipe(
        "Q5_K",
        "Q6_K",
        "Q5_K",
        {
            **_mlp("Q5_K", ("Q6_K", "Q5_K"), "Q6_K"),
            "attention.value": ("Q6_K", "Q5_K"),
            "delta.qkv": ("Q6_K", "Q5_K"),
        },
    ),
    "Q6_K": Recipe("Q6_K", "Q6_K", "Q6_K"),
    "Q2_K_XL": Recipe(
        "Q3_K", "Q5_K", "Q4_K", {**_mlp("Q2_K", ("Q4_K", "Q3_K"), "Q5_K"), **_mixers("Q5_K", "Q5_K", "Q4_K")}
    ),
    "Q3_K_XL": Recipe(
        "Q4_K", "Q5_K", "Q4_K", {**_mlp("Q3_K", ("Q5_K", "Q4_K"), "Q5_K"), **_mixers("Q6_K", "Q5_K", "Q4_K")}
    ),
    "Q4_K_XL": Recipe(
        "Q5_K", "Q6_K", "Q5_K", {**_mlp("Q4_K", ("Q5_K", "Q4_K"), "Q6_K"), **_mixers("Q8_0", "Q6_K", "Q5_K")}
    ),
    "Q5_K_XL": Recipe(
        "Q6_K", "Q6_K", "Q5_K", {**_mlp("Q5_K", ("Q6_K", "Q5_K"), "Q6_K"), **_mixers("Q8_0", "Q8_0", "Q6_K")}
    ),
    "Q6_K_XL": Recipe(
        "Q8_0", "Q8_0", "Q6_K", {**_mlp("Q6_K", ("Q8_0", "Q6_K"), "Q8_0"), **_mixers("Q8_0", "Q8_0", "Q8_0")}
    ),
    "Q8_0": Recipe("Q8_0", "Q8_0", "Q8_0"),
    "Q4_0": Recipe("Q4_0", "Q6_K", "Q4_0"),
    "IQ4_NL": Recipe("IQ4_NL", "Q6_K", "IQ4_NL", {"attention.value": "Q5_K", "delta.out": "Q5_K"}),
    "IQ4_XS": Recipe("IQ4_XS", "Q6_K", "IQ4_XS", {"attention.value": "Q5_K", "delta.out": "Q5_K"}),
    "F32": Recipe("F32", "F32", "F32"),
    "F16": Recipe("F16", "F16", "F16"),
    "BF16": Recipe("BF16", "BF16", "BF16"),
}
"""Every mixture by name. The plain names of formats are among them, with the head and the fragile tensors protected."""

# The number llama.cpp keeps for a mixture in general.file_type; an _XL counts as its nearest relative.
FILE_TYPES = {
    "F32": 0,
    "F16": 1,
    "Q4_0": 2,
    "Q8_0": 7,
    "Q2_K": 10,
    "Q3_K_S": 11,
    "Q3_K_M": 12,
    "Q3_K_L": 13,
    "Q4_K_S": 14,
    "Q4_K_M": 15,
    "Q5_K_S": 16,
    "Q5_K_M": 17,
    "Q6_K": 18,
    "IQ4_NL": 25,
    "IQ4_XS": 30,
    "BF16": 32,
    "Q2_K_XL": 10,
    "Q3_K_XL": 12,
    "Q4_K_XL": 15,
    "Q5_K_XL": 17,
    "Q6_K_XL": 18,
}


def find_recipe(name: str) -> Recipe:
    """The mixture of a name, in any case. Raises RequestError."""
    plain = canonical(name)
    if plain not in RECIPES:
        raise RequestError(
            f"The quantization type {name!r} is unknown.",
            f"Known types are {', '.join(RECIPES)}.",
            "Write for example Q4_K_M.",
        )
    return RECIPES[plain]


def canonical(name: str) -> str:
    """The name as the table has it."""
    return name.upper().removeprefix("UD-")


def format_of(recipe: Recipe, entry: Entry, config: ModelConfig) -> str:
    """The format in which a tensor is stored.

    A format whose blocks do not divide the rows gives way to Q8_0, and that to F16.
    """
    if entry.f32 or len(entry.shape) == 1:
        return "F32"
    wanted = _wanted(recipe, entry, config)
    for choice in (wanted, "Q8_0", "F16"):
        if entry.shape[-1] % FORMATS[choice].block_len == 0:
            return choice
    raise AssertionError("F16 has blocks of one value")


def _wanted(recipe: Recipe, entry: Entry, config: ModelConfig) -> str:
    if FORMATS[recipe.base].is_float:
        return recipe.base
    if entry.name == "output" or (entry.name == "embed" and config.tied_head):
        return recipe.head
    if entry.name == "embed":
        return recipe.embedding
    if entry.suffix in STATE_GATES or entry.name == "draft.project":
        return "Q8_0"
    wanted = recipe.tensors.get(entry.suffix, recipe.base)
    if isinstance(wanted, str):
        return wanted
    return wanted[0] if _gets_more_bits(entry, len(config.layers)) else wanted[1]


def _gets_more_bits(entry: Entry, num_layers: int) -> bool:
    parts = entry.name.split(".")
    if parts[0] != "layers":  # the draft head: one layer, whose mistakes only cost speed
        return False
    layer, eighth = int(parts[1]), num_layers // 8
    return layer < eighth or layer >= 7 * num_layers // 8 or (layer - eighth) % 3 == 2
