"""The eight published sizes, and how many parameters a shape has."""

from __future__ import annotations

import math

from loqal.model.config import ExpertsConfig, Mixer, ModelConfig, VisionConfig
from loqal.model.tensor_names import entries


def layer_pattern(num_layers: int, interval: int = 4) -> tuple[Mixer, ...]:
    """Every ``interval``-th layer is full attention, the others are Gated DeltaNet."""
    return tuple("attention" if (i + 1) % interval == 0 else "delta" for i in range(num_layers))


def _size(
    width: int,
    ffn: int | None,
    layers: int,
    heads: tuple[int, int],
    value_heads: int,
    vision: tuple[int, int, int, int],
    *,
    tied: bool = False,
    experts: ExpertsConfig | None = None,
) -> ModelConfig:
    depth, vision_width, vision_heads, vision_ffn = vision
    return ModelConfig(
        width=width,
        layers=layer_pattern(layers),
        vocab_size=248320,
        num_heads=heads[0],
        num_kv_heads=heads[1],
        num_key_heads=16,
        num_value_heads=value_heads,
        ffn_width=ffn,
        experts=experts,
        tied_head=tied,
        num_draft_layers=1,
        vision=VisionConfig(depth, vision_width, vision_heads, vision_ffn, out_width=width),
    )


_SMALL, _MIDDLE, _LARGE = (12, 768, 12, 3072), (24, 1024, 16, 4096), (27, 1152, 16, 4304)

# Columns: width, feed-forward, layers, (query, key) heads, value heads, (depth, width, heads, feed-forward) of vision.
SIZES: dict[str, ModelConfig] = {
    "0.8B": _size(1024, 3584, 24, (8, 2), 16, _SMALL, tied=True),
    "2B": _size(2048, 6144, 24, (8, 2), 16, _MIDDLE, tied=True),
    "4B": _size(2560, 9216, 32, (16, 4), 32, _MIDDLE, tied=True),
    "9B": _size(4096, 12288, 32, (16, 4), 32, _LARGE),
    "27B": _size(5120, 17408, 64, (24, 4), 48, _LARGE),
    "35B-A3B": _size(2048, None, 40, (16, 2), 32, _LARGE, experts=ExpertsConfig(256, 8, 512, 512)),
    "122B-A10B": _size(3072, None, 48, (32, 2), 64, _LARGE, experts=ExpertsConfig(256, 8, 1024, 1024)),
    "397B-A17B": _size(4096, None, 60, (32, 2), 64, _LARGE, experts=ExpertsConfig(512, 10, 1024, 1024)),
}


def size_label(config: ModelConfig) -> str | None:
    """The published size with this text tower, or ``None``."""
    for label, size in SIZES.items():
        if (size.width, size.layers, size.ffn_width, size.experts, size.num_value_heads) == (
            config.width,
            config.layers,
            config.ffn_width,
            config.experts,
            config.num_value_heads,
        ):
            return label
    return None


def parameter_count(config: ModelConfig) -> dict[str, int]:
    """Parameters by part, counted from the tensor table.

    Keys: ``embedding`` (one copy), ``text_without_embedding``, ``text`` (with every copy of the embedding), ``vision``,
    ``draft``, ``total``, and ``active`` (of ``text_without_embedding``, those one token passes through).
    """
    counts = {"text": 0, "head": 0, "draft": 0, "vision": 0}
    routed = 0
    for entry in entries(config):
        size = math.prod(entry.shape)
        counts[entry.part] += size
        if entry.part == "text" and len(entry.shape) == 3:
            routed += size
    embedding = config.vocab_size * config.width
    inner = counts["text"] - embedding
    active = inner
    if config.experts is not None:
        active -= routed - routed * config.experts.num_active // config.experts.num_experts
    text = counts["text"] + counts["head"]
    return {
        "embedding": embedding,
        "text_without_embedding": inner,
        "text": text,
        "vision": counts["vision"],
        "draft": counts["draft"],
        "total": text + counts["vision"] + counts["draft"],
        "active": active,
    }
