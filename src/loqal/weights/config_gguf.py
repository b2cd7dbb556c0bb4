"""Metadata of a GGUF checkpoint <-> ``ModelConfig``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from loqal.errors import UnsupportedError
from loqal.model.config import ExpertsConfig, Mixer, ModelConfig, RopeConfig, VisionConfig, YarnConfig
from loqal.model.sizes import layer_pattern
from loqal.weights.fields import Fields, check_config
from loqal.weights.source import StoredTensor

ARCHITECTURES = {"qwen35": False, "qwen35moe": True}  # has experts
PROJECTOR = "qwen3vl_merger"


def read_config(metadata: Mapping[str, Any], tensors: Mapping[str, StoredTensor], where: str) -> ModelConfig:
    """The shape of the text model; ``vision`` is that of a monolithic file, else ``None``.

    ``tensors`` is asked for facts the metadata of some writers leaves out: the vocabulary's size, whether there is a
    separate output matrix, and whether the file carries the draft head.

    Raises:
        UnsupportedError: another architecture or a feature loqal does not implement.
        FormatError: a key is missing or has an impossible value.
    """
    architecture = metadata.get("general.architecture")
    if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
        raise UnsupportedError(
            f"{where} holds the architecture {ascii(architecture)[:100]}.",
            f"loqal runs {' and '.join(ARCHITECTURES)}.",
            "Use a checkpoint of the Qwen 3.5 family.",
        )
    prefix = architecture + "."
    keys = Fields({k.removeprefix(prefix): v for k, v in metadata.items() if k.startswith(prefix)}, where)
    keys.only("ssm.v_head_reordered", True)
    experts = _experts(keys) if ARCHITECTURES[architecture] else None
    num_value_heads = keys.count("ssm.time_step_rank")
    head_dim = keys.count("attention.key_length")
    keys.only("attention.value_length", head_dim)
    num_draft_layers = keys.count("nextn_predict_layers", 0, least=0, most=64)
    num_layers = keys.count("block_count", most=1024) - num_draft_layers
    if num_draft_layers == 0 and "mtp.fc.weight" in tensors:
        num_draft_layers = 1  # older Ollama files keep the head beside the blocks and do not count it
    rope, stretched_len = _rope(keys)
    inner = keys.count("ssm.inner_size")
    if inner % num_value_heads:
        raise keys.wrong("ssm.inner_size", f"a multiple of ssm.time_step_rank, {num_value_heads}")
    layers = _layers(keys, num_layers)
    config = ModelConfig(
        width=keys.count("embedding_length"),
        layers=layers,
        vocab_size=keys.count("vocab_size", _rows(tensors, "token_embd.weight") or None),
        num_heads=keys.count("attention.head_count"),
        num_kv_heads=_num_kv_heads(keys),
        num_key_heads=keys.count("ssm.group_count"),
        num_value_heads=num_value_heads,
        ffn_width=None if experts else keys.count("feed_forward_length"),
        experts=experts,
        tied_head="output.weight" not in tensors,
        head_dim=head_dim,
        key_dim=keys.count("ssm.state_size"),
        value_dim=inner // num_value_heads,
        conv_width=keys.count("ssm.conv_kernel", most=64),
        norm_eps=_short_float(keys.real("attention.layer_norm_rms_epsilon")),
        context_len=stretched_len or keys.count("context_length"),
        rope=rope,
        num_draft_layers=num_draft_layers,
        vision=_inner_vision(keys, tensors),
    )
    return check_config(config, where)


def _short_float(value: float) -> float:
    """The shortest decimal that F32 stores as ``value``: 1e-6 stays 1e-6, as in config.json."""
    return float(str(np.float32(value)))


def _rows(tensors: Mapping[str, StoredTensor], name: str) -> int:
    return tensors[name].shape[0] if name in tensors else 0


def _experts(keys: Fields) -> ExpertsConfig:
    return ExpertsConfig(
        num_experts=keys.count("expert_count"),
        num_active=keys.count("expert_used_count"),
        expert_width=keys.count("expert_feed_forward_length"),
        shared_width=keys.count("expert_shared_feed_forward_length"),
    )


def _layers(keys: Fields, num_layers: int) -> tuple[Mixer, ...]:
    """The mixers: declared layer by layer, or by the key heads of each layer, or by an interval."""
    if num_layers < 1:
        raise keys.wrong("block_count", "more than nextn_predict_layers")
    recurrent = keys.values.get("attention.recurrent_layers")
    if isinstance(recurrent, np.ndarray):
        flags = recurrent.tolist()
    elif isinstance(keys.values.get("attention.head_count_kv"), np.ndarray):
        flags = [count == 0 for count in keys.counts("attention.head_count_kv") or ()]
    else:
        return layer_pattern(num_layers, keys.count("full_attention_interval", 4))
    if len(flags) < num_layers:
        raise keys.wrong("attention.recurrent_layers or attention.head_count_kv", f"given for all {num_layers} layers")
    return tuple("delta" if flag else "attention" for flag in flags[:num_layers])


def _num_kv_heads(keys: Fields) -> int:
    if not isinstance(keys.values.get("attention.head_count_kv"), np.ndarray):
        return keys.count("attention.head_count_kv")
    counts = set(keys.counts("attention.head_count_kv") or ()) - {0}
    if len(counts) != 1:
        raise keys.wrong("attention.head_count_kv", "the same number on every full attention layer, 0 on the others")
    return counts.pop()


def _rope(keys: Fields) -> tuple[RopeConfig, int | None]:
    """The rotary positions and, with YaRN, the stretched context length."""
    named = [keys.counts(key) for key in ("rope.dimension_sections", "mrope_sections", "rope.mrope_section")]
    sections = next((found for found in named if found), None)
    if sections is None:
        raise keys.missing("rope.dimension_sections")
    if len(sections) not in (3, 4) or any(sections[3:]):
        raise keys.wrong("rope.dimension_sections", "three whole numbers, optionally followed by a 0")
    keys.only("rope.mrope_interleaved", True)
    keys.only("rope.scaling.type", "none", "default", "yarn")
    yarn = None
    if keys.values.get("rope.scaling.type") == "yarn":
        yarn = YarnConfig(
            factor=keys.real("rope.scaling.factor"),
            original_context=keys.count("rope.scaling.original_context_length"),
            beta_fast=keys.real("rope.scaling.yarn_beta_fast", 32.0),
            beta_slow=keys.real("rope.scaling.yarn_beta_slow", 1.0),
        )
    stretched = int(yarn.factor * yarn.original_context) if yarn is not None else None
    theta = keys.real("rope.freq_base")
    rotary_dim = keys.count("rope.dimension_count")
    return RopeConfig(rotary_dim, theta, (sections[0], sections[1], sections[2]), yarn), stretched


def _inner_vision(keys: Fields, tensors: Mapping[str, StoredTensor]) -> VisionConfig | None:
    """The vision tower of a monolithic Ollama file, whose metadata leaves some numbers to the tensors."""
    if "vision.block_count" not in keys.values:
        return None
    keys.only("vision.num_channels", 3)
    if keys.counts("vision.deepstack_visual_indexes"):
        raise keys.wrong("vision.deepstack_visual_indexes", "empty")
    ffn_rows = _rows(tensors, "v.blk.0.mlp.linear_fc1.weight") or None
    return VisionConfig(
        depth=keys.count("vision.block_count"),
        width=keys.count("vision.embedding_length"),
        num_heads=keys.count("vision.attention.head_count"),
        ffn_width=keys.count("vision.feed_forward_length", ffn_rows),
        out_width=keys.count("embedding_length"),
        patch_size=keys.count("vision.patch_size", 16),
        temporal_patch_size=keys.count("vision.temporal_patch_size", 2),
        merge_size=keys.count("vision.spatial_merge_size", 2),
        num_positions=_rows(tensors, "v.pos_embed.weight") or 2304,
    )


def read_vision(metadata: Mapping[str, Any], where: str) -> VisionConfig:
    """The vision tower of a separate mmproj file.

    Raises:
        UnsupportedError: another projector or a feature loqal does not implement.
        FormatError: a key is missing or has an impossible value.
    """
    keys = Fields({k.removeprefix("clip."): v for k, v in metadata.items() if k.startswith("clip.")}, where)
    projector = keys.values.get("projector_type", keys.values.get("vision.projector_type"))
    if not isinstance(projector, str) or projector != PROJECTOR:
        raise UnsupportedError(
            f"{where} holds the projector {ascii(projector)[:100]}.",
            f"The vision tower of Qwen 3.5 has the projector {PROJECTOR}.",
            "Use the mmproj file published with this model.",
        )
    deepstack = keys.values.get("vision.is_deepstack_layers")
    if isinstance(deepstack, np.ndarray) and deepstack.any():
        raise UnsupportedError(
            f"{where} has deepstack layers.", "No Qwen 3.5 model has them.", "Use another mmproj file."
        )
    keys.only("use_gelu", True)
    for key in (
        "vision.image_mean",
        "vision.image_std",
    ):  # what pictures are normalised with, see media/resize_rules.py
        values = keys.values.get(key)
        if values is not None and not (isinstance(values, np.ndarray) and values.tolist() == [0.5, 0.5, 0.5]):
            raise UnsupportedError(
                f"{where}: {key} is {ascii(values)[:100]}.",
                "Every Qwen 3.5 model has 0.5 for each colour.",
                "Use the mmproj file published with this model.",
            )
    patch_size = keys.count("vision.patch_size", most=1024)
    return VisionConfig(
        depth=keys.count("vision.block_count"),
        width=keys.count("vision.embedding_length"),
        num_heads=keys.count("vision.attention.head_count"),
        ffn_width=keys.count("vision.feed_forward_length"),
        out_width=keys.count("vision.projection_dim"),
        patch_size=patch_size,
        merge_size=keys.count("vision.spatial_merge_size", 2),
        num_positions=(keys.count("vision.image_size") // patch_size) ** 2,
    )


def write_config(config: ModelConfig) -> dict[str, Any]:
    """The metadata of the text model, as llama.cpp's converter writes it."""
    architecture = "qwen35" if config.experts is None else "qwen35moe"
    rope = config.rope
    recurrent = [mixer == "delta" for mixer in config.layers] + [False] * config.num_draft_layers
    keys: dict[str, Any] = {
        "block_count": len(config.layers) + config.num_draft_layers,
        "context_length": config.context_len if rope.yarn is None else rope.yarn.original_context,
        "embedding_length": config.width,
        "attention.head_count": config.num_heads,
        "attention.head_count_kv": config.num_kv_heads,
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
        "attention.layer_norm_rms_epsilon": config.norm_eps,
        "attention.recurrent_layers": np.array(recurrent, np.bool_),
        "vocab_size": config.vocab_size,
        "rope.freq_base": config.rope.theta,
        "rope.dimension_count": rope.rotary_dim,
        "rope.dimension_sections": np.array([*rope.sections, 0], np.int32),
        "ssm.conv_kernel": config.conv_width,
        "ssm.state_size": config.key_dim,
        "ssm.group_count": config.num_key_heads,
        "ssm.time_step_rank": config.num_value_heads,
        "ssm.inner_size": config.value_width,
    }
    interval = config.layers.index("attention") + 1 if "attention" in config.layers else 0
    if interval and config.layers == layer_pattern(len(config.layers), interval):
        keys["full_attention_interval"] = interval
    if config.num_draft_layers:
        keys["nextn_predict_layers"] = config.num_draft_layers
    if config.experts is not None:
        keys |= {
            "expert_count": config.experts.num_experts,
            "expert_used_count": config.experts.num_active,
            "expert_feed_forward_length": config.experts.expert_width,
            "expert_shared_feed_forward_length": config.experts.shared_width,
        }
    else:
        keys["feed_forward_length"] = config.ffn_width
    if rope.yarn is not None:
        keys |= {
            "rope.scaling.type": "yarn",
            "rope.scaling.factor": rope.yarn.factor,
            "rope.scaling.original_context_length": rope.yarn.original_context,
            "rope.scaling.yarn_beta_fast": rope.yarn.beta_fast,
            "rope.scaling.yarn_beta_slow": rope.yarn.beta_slow,
        }
    return {"general.architecture": architecture, **{f"{architecture}.{key}": value for key, value in keys.items()}}


def write_vision(config: VisionConfig) -> dict[str, Any]:
    """The metadata of an mmproj file, as llama.cpp's converter writes it."""
    return {
        "general.architecture": "clip",
        "general.type": "mmproj",
        "clip.has_vision_encoder": True,
        "clip.projector_type": PROJECTOR,
        "clip.use_gelu": True,
        "clip.vision.image_size": math.isqrt(config.num_positions) * config.patch_size,
        "clip.vision.patch_size": config.patch_size,
        "clip.vision.embedding_length": config.width,
        "clip.vision.feed_forward_length": config.ffn_width,
        "clip.vision.block_count": config.depth,
        "clip.vision.attention.head_count": config.num_heads,
        "clip.vision.attention.layer_norm_epsilon": config.norm_eps,
        "clip.vision.projection_dim": config.out_width,
        "clip.vision.spatial_merge_size": config.merge_size,
        "clip.vision.image_mean": np.full(3, 0.5, np.float32),
        "clip.vision.image_std": np.full(3, 0.5, np.float32),
        "clip.vision.is_deepstack_layers": np.zeros(config.depth, np.bool_),
    }
