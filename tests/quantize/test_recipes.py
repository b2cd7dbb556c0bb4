"""Which tensor gets which format: laws that hold for every mixture and size."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from loqal.errors import RequestError
from loqal.formats import FORMATS
from loqal.model.config import ModelConfig
from loqal.model.sizes import SIZES
from loqal.model.tensor_names import Entry, entries
from loqal.quantize.recipes import FILE_TYPES, RECIPES, canonical, find_recipe, format_of
from loqal.testing.checkpoints import tiny_config

SMALL = replace(SIZES["0.8B"], num_draft_layers=1)


def bits(format: str) -> float:
    return FORMATS[format].block_bytes * 8 / FORMATS[format].block_len


def formats_of(name: str, config: ModelConfig) -> dict[str, str]:
    return {entry.name: format_of(RECIPES[name], entry, config) for entry in entries(config)}


def entry_of(config: ModelConfig, suffix: str) -> Entry:
    return next(entry for entry in entries(config) if entry.suffix == suffix)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("size", ["0.8B", "9B", "35B-A3B"])
def test_every_tensor_gets_a_format_that_fits_its_rows(name: str, size: str) -> None:
    config = SIZES[size]
    for entry in entries(config):
        format = format_of(RECIPES[name], entry, config)
        assert format in FORMATS and entry.shape[-1] % FORMATS[format].block_len == 0
        if len(entry.shape) == 1 or entry.f32:
            assert format == "F32"


@pytest.mark.parametrize("name", RECIPES)
def test_what_is_sensitive_never_gets_fewer_bits_than_the_base(name: str) -> None:
    found = formats_of(name, SMALL)
    recipe = RECIPES[name]
    if FORMATS[recipe.base].is_float:
        assert {found[entry.name] for entry in entries(SMALL) if len(entry.shape) == 2 and not entry.f32} == {name}
        return
    for layer in range(len(SMALL.layers)):
        prefix = f"layers.{layer}."
        for steering in ("delta.alpha", "delta.beta"):
            assert found.get(prefix + steering, "Q8_0") == "Q8_0"
        if prefix + "delta.out" in found:
            assert bits(found[prefix + "delta.out"]) >= bits(recipe.base)
        assert bits(found[prefix + "mlp.down"]) >= bits(found[prefix + "mlp.gate"])
        assert found[prefix + "mlp.gate"] == found[prefix + "mlp.up"]
    assert found["embed" if SMALL.tied_head else "output"] == recipe.head


FAMILIES = [
    ("Q3_K_S", "Q3_K_M", "Q3_K_L"),
    ("Q4_K_S", "Q4_K_M"),
    ("Q5_K_S", "Q5_K_M"),
    ("Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "BF16", "F32"),
    ("Q2_K_XL", "Q3_K_XL", "Q4_K_XL", "Q5_K_XL", "Q6_K_XL"),
]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", ["0.8B", "9B", "35B-A3B"])
def test_larger_mixtures_take_more_bytes(family: tuple[str, ...], size: str) -> None:
    config = SIZES[size]

    def total(name: str) -> float:
        return sum(math.prod(entry.shape) * bits(format_of(RECIPES[name], entry, config)) for entry in entries(config))

    totals = list(map(total, family))
    assert totals == sorted(totals) and len(set(totals)) == len(totals)


def test_layers_that_get_more_bits() -> None:
    config = tiny_config(layers=("delta", "delta", "delta", "attention") * 6, width=256, ffn_width=256)
    found = formats_of("Q4_K_M", config)
    more = [layer for layer in range(24) if found[f"layers.{layer}.mlp.down"] == "Q6_K"]
    assert more == [0, 1, 2, 5, 8, 11, 14, 17, 20, 21, 22, 23]  # the first and last eighth, every third between


def test_the_draft_head_gets_none_of_them() -> None:
    found = formats_of("Q4_K_M", SMALL)
    drafting = {name: format for name, format in found.items() if name.startswith("draft.")}
    assert drafting["draft.project"] == "Q8_0"
    assert next(format for name, format in drafting.items() if name.endswith("mlp.down")) == "Q4_K"


def test_rows_that_are_no_whole_blocks() -> None:
    config = tiny_config()  # 64 and 96 wide: blocks of 32 fit, those of 256 do not
    assert format_of(RECIPES["Q4_K_M"], entry_of(config, "mlp.gate"), config) == "Q8_0"
    assert format_of(RECIPES["Q4_0"], entry_of(config, "mlp.gate"), config) == "Q4_0"
    odd = replace(entry_of(config, "mlp.gate"), shape=(96, 60))
    assert format_of(RECIPES["Q4_0"], odd, config) == "F16"


def test_names_of_mixtures() -> None:
    assert find_recipe("q4_k_m") is find_recipe("UD-Q4_K_M") is RECIPES["Q4_K_M"]
    assert canonical("ud-q4_k_xl") == "Q4_K_XL"
    with pytest.raises(RequestError):
        find_recipe("Q9")
    assert set(FILE_TYPES) == set(RECIPES)
    assert all(recipe.base in FORMATS for recipe in RECIPES.values())
