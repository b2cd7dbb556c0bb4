"""Configurations: both file formats describe the same model, and refuse what loqal does not run."""

from __future__ import annotations

import copy
import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from loqal.errors import CheckpointError, FormatError, UnsupportedError
from loqal.model.config import ModelConfig, RopeConfig, YarnConfig
from loqal.model.sizes import SIZES, layer_pattern
from loqal.testing.checkpoints import tiny_config
from loqal.weights import config_gguf, config_json

YARN = RopeConfig(yarn=YarnConfig(factor=4.0, original_context=262144))


def from_json(values: dict[str, Any]) -> ModelConfig:
    return config_json.read_config(json.loads(json.dumps(values)), "config.json").config


def from_gguf(metadata: dict[str, Any]) -> ModelConfig:
    return config_gguf.read_config(metadata, {}, "model.gguf")


@pytest.mark.parametrize("size", SIZES)
def test_every_size_survives_both_formats(size: str) -> None:
    config = SIZES[size]
    assert from_json(config_json.write_config(config)) == config
    assert config.vision is not None
    text = dataclasses.replace(config, vision=None, tied_head=True)
    assert from_gguf(config_gguf.write_config(config)) == text
    assert config_gguf.read_vision(config_gguf.write_vision(config.vision), "mmproj.gguf") == config.vision


def test_yarn_stretches_the_context() -> None:
    config = tiny_config(rope=YARN, context_len=1048576)
    assert from_json(config_json.write_config(config)) == dataclasses.replace(config, tied_head=True)
    assert from_gguf(config_gguf.write_config(config)) == config


def test_text_only_configurations_are_flat() -> None:
    config = tiny_config("moe", tied_head=False)
    values = config_json.write_config(config)
    assert values["architectures"] == ["Qwen3_5MoeForCausalLM"]
    assert "text_config" not in values
    assert from_json(values) == config


def published() -> dict[str, Any]:
    return config_json.write_config(SIZES["4B"])


def test_older_places_of_the_rotary_fields() -> None:
    values = published()
    rope = values["text_config"].pop("rope_parameters")
    assert from_json({**values, "text_config": {**values["text_config"], "rope_scaling": rope}}) == SIZES["4B"]
    named = {"type": "mrope", "mrope_section": rope["mrope_section"]}
    assert from_json({**values, "text_config": {**values["text_config"], "rope_scaling": named}}) == SIZES["4B"]
    flat = {"rope_theta": rope["rope_theta"], "partial_rotary_factor": rope["partial_rotary_factor"]}
    assert from_json({**values, "text_config": {**values["text_config"], **flat}}) == SIZES["4B"]
    other = {**rope, "rope_theta": 5e6}
    both = {**values["text_config"], "rope_parameters": other, "rope_scaling": rope}
    assert from_json({**values, "text_config": both}).rope.theta == 5e6


def test_layers_by_interval() -> None:
    values = published()
    del values["text_config"]["layer_types"]
    assert from_json(values).layers == layer_pattern(32)
    values["text_config"]["full_attention_interval"] = 2
    assert from_json(values).layers == layer_pattern(32, 2)


def test_later_releases_add_fields() -> None:
    values = published()
    values["text_config"] |= {"output_gate_type": "swish", "bos_token_id": 248044, "partial_rotary_factor": 0.25}
    values["language_model_only"] = False
    assert from_json(values) == SIZES["4B"]


TEXT_FAULTS: dict[str, list[Any]] = {
    "hidden_size": [None, 0, -1, 1.5, "2560", True, 1 << 40],
    "num_hidden_layers": [0, 31, 1 << 30],
    "layer_types": [["linear_attention"] * 31 + ["sliding"], "full_attention", [[]] * 32, [1] * 32],
    "hidden_act": ["gelu"],
    "attention_bias": [True],
    "attn_output_gate": [False],
    "output_gate_type": ["sigmoid"],
    "mlp_only_layers": [[1]],
    "mtp_use_dedicated_embeddings": [True],
    "mtp_num_hidden_layers": [2, -1],
    "num_key_value_heads": [3],
    "linear_num_value_heads": [24],
    "rms_norm_eps": [0, "1e-6", float("inf"), [1]],
    "head_dim": [96],
    "rope_parameters": [
        5,
        {"rope_type": "llama3"},
        {"rope_type": "yarn"},
        {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 1024, "truncate": False},
        {"mrope_interleaved": False},
        {"mrope_section": [11, 11]},
        {"mrope_section": [11, 11, 11]},
        {"rope_type": ["default"]},
    ],
}
VISION_FAULTS: dict[str, list[Any]] = {
    "depth": [None, 0, 1 << 23],
    "hidden_act": ["gelu"],
    "deepstack_visual_indexes": [[8]],
    "in_channels": [1],
    "out_hidden_size": [1024],
    "num_heads": [7],
    "num_position_embeddings": [2000],
}


@pytest.mark.parametrize(("section", "faults"), [("text_config", TEXT_FAULTS), ("vision_config", VISION_FAULTS)])
def test_wrong_fields_are_refused_by_name(section: str, faults: dict[str, list[Any]]) -> None:
    for key, values in faults.items():
        for value in values:
            broken = copy.deepcopy(published())
            broken[section][key] = value
            with pytest.raises(CheckpointError) as caught:
                config_json.read_config(broken, "config.json")
            error = caught.value
            assert "config.json" in error.what and error.fix
            assert any(word in error.what for word in (key, "layer_types", "rope", "cannot run")), (key, value, error)


@pytest.mark.parametrize(
    "change",
    [
        {"architectures": ["LlamaForCausalLM"]},
        {"architectures": []},
        {"architectures": None},
        {"architectures": [["Qwen3_5ForCausalLM"]]},
        {"quantization_config": {"quant_method": "fp8"}},
        {"quantization": {"bits": 4, "group_size": 64, "mode": "affine"}},
        {"text_config": "none"},
    ],
)
def test_other_models_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises((UnsupportedError, FormatError)):
        config_json.read_config({**published(), **change}, "config.json")


def test_quantized_checkpoints_name_their_method() -> None:
    values = {**published(), "quantization_config": {"quant_method": "gptq"}}
    with pytest.raises(UnsupportedError, match="gptq"):
        config_json.read_config(values, "config.json")


METADATA_FAULTS: dict[str, list[Any]] = {
    "block_count": [None, 0, 1, "4", 1 << 20],
    "embedding_length": [None, 0, 2.5],
    "attention.head_count": [0, True],
    "attention.head_count_kv": [np.zeros(4, np.uint32), np.array([0, 0, 1, 2], np.uint32), np.ones(4, np.float32)],
    "attention.value_length": [128],
    "attention.recurrent_layers": [np.ones(2, np.bool_)],
    "rope.dimension_sections": [None, np.array([11, 11], np.int32), np.array([11, 11, 10, 1], np.int32)],
    "rope.scaling.type": ["linear"],
    "ssm.v_head_reordered": [False],
    "ssm.inner_size": [7],
    "ssm.state_size": [None],
    "nextn_predict_layers": [2, 4],
    "feed_forward_length": [None],
}


def test_wrong_metadata_is_refused_by_name() -> None:
    for key, values in METADATA_FAULTS.items():
        for value in values:
            metadata = config_gguf.write_config(tiny_config(num_draft_layers=1))
            metadata.pop("qwen35.attention.recurrent_layers") if key == "attention.head_count_kv" else None
            metadata[f"qwen35.{key}"] = value
            if value is None:
                del metadata[f"qwen35.{key}"]
            with pytest.raises(CheckpointError) as caught:
                from_gguf(metadata)
            assert "model.gguf" in caught.value.what, (key, value)


def test_metadata_of_other_models_is_refused() -> None:
    for architecture in ("llama", "clip", 5, None):
        with pytest.raises(UnsupportedError, match=r"model\.gguf"):
            from_gguf({"general.architecture": architecture})
    vision = config_gguf.write_vision(SIZES["4B"].vision)  # type: ignore[arg-type]
    colours: dict[str, Any] = {"clip.vision.image_mean": np.full(3, 0.4, np.float32)}
    for change in (
        colours,
        {"clip.vision.image_std": 1.0},
        {"clip.projector_type": "mlp"},
        {"clip.vision.is_deepstack_layers": np.ones(24, np.bool_)},
    ):
        with pytest.raises(UnsupportedError):
            config_gguf.read_vision({**vision, **change}, "mmproj.gguf")


def test_layers_of_gguf_without_the_list() -> None:
    metadata = config_gguf.write_config(tiny_config())
    del metadata["qwen35.attention.recurrent_layers"]
    assert from_gguf(metadata).layers == layer_pattern(4)
    metadata["qwen35.full_attention_interval"] = 2
    assert from_gguf(metadata).layers == layer_pattern(4, 2)
    metadata["qwen35.attention.head_count_kv"] = np.array([1, 0, 0, 1], np.uint32)
    config = from_gguf(metadata)
    assert config.layers == ("attention", "delta", "delta", "attention") and config.num_kv_heads == 1


@pytest.mark.parametrize("interval", [1, 2, 3, 4])
def test_interval_of_attention_is_written(interval: int) -> None:
    """For readers that do not know the list; a count of layers that is no multiple of it included."""
    config = dataclasses.replace(tiny_config(), layers=layer_pattern(7, interval))
    metadata = config_gguf.write_config(config)
    del metadata["qwen35.attention.recurrent_layers"]
    assert from_gguf(metadata).layers == config.layers
