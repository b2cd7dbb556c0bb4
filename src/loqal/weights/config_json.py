"""config.json of a safetensors checkpoint <-> ``ModelConfig``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from loqal.errors import UnsupportedError
from loqal.model.config import ExpertsConfig, Mixer, ModelConfig, RopeConfig, VisionConfig, YarnConfig
from loqal.model.sizes import layer_pattern
from loqal.weights.fields import Fields, check_config

# Declared architecture -> (key of HF_PREFIXES, has experts).
ARCHITECTURES = {
    "Qwen3_5ForConditionalGeneration": ("conditional", False),
    "Qwen3_5MoeForConditionalGeneration": ("conditional", True),
    "Qwen3_5ForCausalLM": ("causal", False),
    "Qwen3_5MoeForCausalLM": ("causal", True),
}

_MIXERS: dict[str, Mixer] = {"linear_attention": "delta", "full_attention": "attention"}
_QUANTISED = {"quantization_config": "quant_method", "quantization": "mode"}


@dataclass(frozen=True, slots=True)
class JsonConfig:
    """``config`` as declared; ``architecture`` is a key of ``HF_PREFIXES``."""

    config: ModelConfig
    architecture: str


def read_config(values: dict[str, Any], where: str) -> JsonConfig:
    """Parse config.json; ``where`` names it in messages.

    Raises:
        UnsupportedError: another architecture, a quantized checkpoint, or a feature loqal does not implement.
        FormatError: a field is missing or has an impossible value.
    """
    architecture, has_experts = _architecture(values, where)
    for key, method in _QUANTISED.items():
        if values.get(key):
            table = values[key]
            name = table.get(method, "an unnamed method") if isinstance(table, dict) else "an unnamed method"
            raise UnsupportedError(
                f"{where} declares quantized weights ({key}: {name}).",
                "loqal reads safetensors in BF16, F16 and F32, and quantized weights from GGUF files.",
                "Use the unquantized checkpoint or a GGUF file of this model.",
            )
    top = Fields(values, where)
    text = top.table("text_config") or top
    vision = top.table("vision_config") if architecture == "conditional" else None
    config = _text(text, _tied(top, text), has_experts, _vision(vision) if vision is not None else None)
    return JsonConfig(check_config(config, where), architecture)


def _architecture(values: dict[str, Any], where: str) -> tuple[str, bool]:
    declared = values.get("architectures")
    name = declared[0] if isinstance(declared, list) and len(declared) == 1 else None
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise UnsupportedError(
            f"{where} declares the architecture {ascii(declared)[:100]}.",
            f"loqal runs {', '.join(ARCHITECTURES)}.",
            "Use a checkpoint of the Qwen 3.5 family.",
        )
    return ARCHITECTURES[name]


def _tied(top: Fields, text: Fields) -> bool:
    return top.flag("tie_word_embeddings", text.flag("tie_word_embeddings", False))


def _text(text: Fields, tied: bool, has_experts: bool, vision: VisionConfig | None) -> ModelConfig:
    text.only("hidden_act", "silu", None)
    text.only("attention_bias", False, None)
    text.only("attn_output_gate", True, None)
    text.only("output_gate_type", "swish", "silu", None)
    text.only("mlp_only_layers", [], None)
    text.only("norm_topk_prob", True, None)
    text.only("mtp_use_dedicated_embeddings", False, None)
    head_dim = text.count("head_dim", 256)
    rope, stretched_len = _rope(text, head_dim)
    experts = None
    if has_experts:
        experts = ExpertsConfig(
            num_experts=text.count("num_experts"),
            num_active=text.count("num_experts_per_tok"),
            expert_width=text.count("moe_intermediate_size"),
            shared_width=text.count("shared_expert_intermediate_size"),
        )
    return ModelConfig(
        width=text.count("hidden_size"),
        layers=_layers(text),
        vocab_size=text.count("vocab_size"),
        num_heads=text.count("num_attention_heads"),
        num_kv_heads=text.count("num_key_value_heads"),
        num_key_heads=text.count("linear_num_key_heads"),
        num_value_heads=text.count("linear_num_value_heads"),
        ffn_width=None if has_experts else text.count("intermediate_size"),
        experts=experts,
        tied_head=tied,
        head_dim=head_dim,
        key_dim=text.count("linear_key_head_dim"),
        value_dim=text.count("linear_value_head_dim"),
        conv_width=text.count("linear_conv_kernel_dim", most=64),
        norm_eps=text.real("rms_norm_eps"),
        context_len=stretched_len or text.count("max_position_embeddings"),
        rope=rope,
        num_draft_layers=text.count("mtp_num_hidden_layers", 0, least=0),
        vision=vision,
    )


def _layers(text: Fields) -> tuple[Mixer, ...]:
    num_layers = text.count("num_hidden_layers", most=1024)
    types = text.values.get("layer_types")
    if types is None:
        return layer_pattern(num_layers, text.count("full_attention_interval", 4))
    if not isinstance(types, list) or len(types) != num_layers or not all(_is_mixer(kind) for kind in types):
        raise text.wrong("layer_types", f"{num_layers} times linear_attention or full_attention")
    return tuple(_MIXERS[kind] for kind in types)


def _is_mixer(kind: Any) -> bool:
    return isinstance(kind, str) and kind in _MIXERS


def _rope(text: Fields, head_dim: int) -> tuple[RopeConfig, int | None]:
    """The rotary positions and, with YaRN, the stretched context length."""
    rope = text.table("rope_parameters") or text.table("rope_scaling") or text
    kind = rope.values.get("rope_type", rope.values.get("type", "default"))
    theta = rope.real("rope_theta", text.real("rope_theta", 1e7))
    share = rope.real("partial_rotary_factor", text.real("partial_rotary_factor", 0.25))
    sections = rope.counts("mrope_section") or (11, 11, 10)
    if len(sections) != 3:
        raise rope.wrong("mrope_section", "three whole numbers")
    rope.only("mrope_interleaved", True, None)
    yarn = None
    if kind == "yarn":
        for key in ("attention_factor", "mscale", "mscale_all_dim"):
            rope.only(key, None)
        rope.only("truncate", True, None)
        yarn = YarnConfig(
            factor=rope.real("factor"),
            original_context=rope.count("original_max_position_embeddings"),
            beta_fast=rope.real("beta_fast", 32.0),
            beta_slow=rope.real("beta_slow", 1.0),
        )
    elif kind not in ("default", "mrope"):  # older files name the default by its sections
        raise rope.wrong("rope_type", "default or yarn")
    stretched = int(yarn.factor * yarn.original_context) if yarn is not None else None
    return RopeConfig(int(head_dim * share), theta, (sections[0], sections[1], sections[2]), yarn), stretched


def _vision(vision: Fields) -> VisionConfig:
    vision.only("hidden_act", "gelu_pytorch_tanh", None)
    vision.only("deepstack_visual_indexes", [], None)
    vision.only("in_channels", 3, None)
    return VisionConfig(
        depth=vision.count("depth"),
        width=vision.count("hidden_size"),
        num_heads=vision.count("num_heads"),
        ffn_width=vision.count("intermediate_size"),
        out_width=vision.count("out_hidden_size"),
        patch_size=vision.count("patch_size", 16),
        temporal_patch_size=vision.count("temporal_patch_size", 2),
        merge_size=vision.count("spatial_merge_size", 2),
        num_positions=vision.count("num_position_embeddings", 2304),
    )


def write_config(config: ModelConfig) -> dict[str, Any]:
    """The config.json of ``config``, in the layout of the published checkpoints."""
    family, prefix = ("qwen3_5", "Qwen3_5") if config.experts is None else ("qwen3_5_moe", "Qwen3_5Moe")
    text = _write_text(config, f"{family}_text")
    if config.vision is None:
        return {"architectures": [f"{prefix}ForCausalLM"], **text}
    return {
        "architectures": [f"{prefix}ForConditionalGeneration"],
        "model_type": family,
        "image_token_id": 248056,
        "video_token_id": 248057,
        "vision_start_token_id": 248053,
        "vision_end_token_id": 248054,
        "tie_word_embeddings": config.tied_head,
        "text_config": text,
        "vision_config": {"model_type": family, **_write_vision(config.vision)},
    }


def _write_text(config: ModelConfig, model_type: str) -> dict[str, Any]:
    names = {mixer: name for name, mixer in _MIXERS.items()}
    yarn = config.rope.yarn
    text: dict[str, Any] = {
        "model_type": model_type,
        "attention_bias": False,
        "attn_output_gate": True,
        "dtype": "bfloat16",
        "eos_token_id": 248044,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "hidden_size": config.width,
        "layer_types": [names[mixer] for mixer in config.layers],
        "linear_conv_kernel_dim": config.conv_width,
        "linear_key_head_dim": config.key_dim,
        "linear_num_key_heads": config.num_key_heads,
        "linear_num_value_heads": config.num_value_heads,
        "linear_value_head_dim": config.value_dim,
        "mamba_ssm_dtype": "float32",
        "max_position_embeddings": config.context_len if yarn is None else yarn.original_context,
        "mlp_only_layers": [],
        "mtp_num_hidden_layers": config.num_draft_layers,
        "mtp_use_dedicated_embeddings": False,
        "num_attention_heads": config.num_heads,
        "num_hidden_layers": len(config.layers),
        "num_key_value_heads": config.num_kv_heads,
        "rms_norm_eps": config.norm_eps,
        "rope_parameters": _write_rope(config),
        "tie_word_embeddings": config.tied_head,
        "vocab_size": config.vocab_size,
    }
    if config.experts is None:
        return {**text, "intermediate_size": config.ffn_width}
    return {
        **text,
        "num_experts": config.experts.num_experts,
        "num_experts_per_tok": config.experts.num_active,
        "moe_intermediate_size": config.experts.expert_width,
        "shared_expert_intermediate_size": config.experts.shared_width,
    }


def _write_rope(config: ModelConfig) -> dict[str, Any]:
    rope = {
        "rope_type": "default",
        "rope_theta": config.rope.theta,
        "partial_rotary_factor": config.rope.rotary_dim / config.head_dim,
        "mrope_section": list(config.rope.sections),
        "mrope_interleaved": True,
    }
    yarn = config.rope.yarn
    if yarn is None:
        return rope
    rope |= {"rope_type": "yarn", "factor": yarn.factor, "original_max_position_embeddings": yarn.original_context}
    return rope | {"beta_fast": yarn.beta_fast, "beta_slow": yarn.beta_slow}


def _write_vision(vision: VisionConfig) -> dict[str, Any]:
    return {
        "deepstack_visual_indexes": [],
        "depth": vision.depth,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_size": vision.width,
        "in_channels": 3,
        "intermediate_size": vision.ffn_width,
        "num_heads": vision.num_heads,
        "num_position_embeddings": vision.num_positions,
        "out_hidden_size": vision.out_width,
        "patch_size": vision.patch_size,
        "spatial_merge_size": vision.merge_size,
        "temporal_patch_size": vision.temporal_patch_size,
    }
