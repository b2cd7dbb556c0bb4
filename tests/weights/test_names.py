"""The table of names: complete, countable, and the same for all eight sizes."""

from __future__ import annotations

import pytest

from loqal.model.sizes import SIZES, parameter_count, size_label
from loqal.model.tensor_names import entries, gguf_options, hf_options, resolve
from loqal.testing.checkpoints import tiny_config

# Published shapes: embedding, text without it, text, vision, draft head, everything.
COUNTS = {
    "0.8B": (254_279_680, 498_113_344, 752_393_024, 100_592_896, 20_452_864, 873_438_784),
    "2B": (508_559_360, 1_373_265_728, 1_881_825_088, 331_416_576, 60_828_160, 2_274_069_824),
    "4B": (635_699_200, 3_570_052_096, 4_205_751_296, 333_514_240, 120_599_552, 4_659_865_088),
    "9B": (1_017_118_720, 6_919_565_824, 8_953_803_264, 456_010_480, 243_290_624, 9_653_104_368),
    "27B": (1_271_398_400, 24_353_201_664, 26_895_998_464, 460_730_096, 424_699_392, 27_781_427_952),
    "35B-A3B": (508_559_360, 33_643_491_968, 34_660_610_688, 446_571_248, 844_640_768, 35_951_822_704),
    "122B-A10B": (762_839_040, 120_585_848_832, 122_111_526_912, 451_290_864, 2_523_679_232, 125_086_497_008),
    "397B-A17B": (1_017_118_720, 394_312_112_896, 396_346_350_336, 456_010_480, 6_595_568_128, 403_397_928_944),
}
ACTIVE = {"35B-A3B": 2_437_870_208, "122B-A10B": 8_245_610_496, "397B-A17B": 15_314_803_456}

# Tensors of the published safetensors: text, vision, draft head.
TENSORS = {
    "0.8B": (320, 153, 15),
    "2B": (320, 297, 15),
    "4B": (426, 297, 15),
    "9B": (427, 333, 15),
    "27B": (851, 333, 15),
    "35B-A3B": (693, 333, 19),
    "122B-A10B": (831, 333, 19),
    "397B-A17B": (1038, 333, 19),
}


@pytest.mark.parametrize("size", SIZES)
def test_every_size_has_the_published_number_of_parameters(size: str) -> None:
    counts = parameter_count(SIZES[size])
    keys = ("embedding", "text_without_embedding", "text", "vision", "draft", "total")
    assert tuple(counts[key] for key in keys) == COUNTS[size]
    assert counts["active"] == ACTIVE.get(size, counts["text_without_embedding"])


@pytest.mark.parametrize("size", SIZES)
def test_every_size_has_the_published_number_of_tensors(size: str) -> None:
    config = SIZES[size]
    names = {
        part: {e.hf for e in entries(config) if e.part in part} for part in (("text", "head"), ("vision",), ("draft",))
    }
    assert tuple(len(found) for found in names.values()) == TENSORS[size]
    # GGUF splits the fused experts, and the patch embedding in two.
    gguf = {e.gguf for e in entries(config) if e.part in ("text", "head")}
    assert len(gguf) == TENSORS[size][0] + (len(config.layers) if config.experts else 0)


@pytest.mark.parametrize("size", SIZES)
def test_sizes_know_their_label(size: str) -> None:
    assert size_label(SIZES[size]) == size
    assert size_label(tiny_config()) is None


@pytest.mark.parametrize("kind", ["dense", "moe"])
def test_names_are_unique_and_resolve_to_themselves(kind: str) -> None:
    config = tiny_config(kind, vision=True, num_draft_layers=1)  # type: ignore[arg-type]
    table = entries(config)
    assert len({e.name for e in table}) == len(table)
    assert len({e.gguf for e in table}) == len(table)
    hf = resolve(table, {e.hf for e in table}, lambda e: hf_options(e, config, "conditional"))
    assert not hf.missing and not hf.unused and len(hf.found) == len(table)
    names = {e.gguf for e in table} | {"v.patch_embd.weight.1"}
    gguf = resolve(table, names, lambda e: gguf_options(e, config))
    assert not gguf.missing and not gguf.unused


def test_some_names_as_published() -> None:
    config = tiny_config("moe", vision=True, num_draft_layers=1)
    table = {e.name: (e.hf, e.gguf) for e in entries(config)}
    assert table["layers.0.delta.qkv"] == (
        "model.language_model.layers.0.linear_attn.in_proj_qkv.weight",
        "blk.0.attn_qkv.weight",
    )
    assert table["layers.3.attention.query"] == (
        "model.language_model.layers.3.self_attn.q_proj.weight",
        "blk.3.attn_q.weight",
    )
    assert table["layers.1.delta.a"] == ("model.language_model.layers.1.linear_attn.A_log", "blk.1.ssm_a")
    assert table["draft.project"] == ("mtp.fc.weight", "blk.4.nextn.eh_proj.weight")
    assert table["draft.layer.experts.down"] == ("mtp.layers.0.mlp.experts.down_proj", "blk.4.ffn_down_exps.weight")
    assert table["vision.layers.1.fc1.bias"] == ("model.visual.blocks.1.mlp.linear_fc1.bias", "v.blk.1.ffn_up.bias")
    assert table["vision.merger.fc2.weight"] == ("model.visual.merger.linear_fc2.weight", "mm.2.weight")
    assert table["output"] == ("lm_head.weight", "output.weight")
