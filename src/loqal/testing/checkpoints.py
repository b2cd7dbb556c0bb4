"""Checkpoints with random weights for tests: tiny ones in both file formats, and the published sizes as GGUF.

Tiny means narrow and shallow: heads keep their real sizes, and there are twice as many value heads as key heads, since
a model with as many of both cannot reveal a wrong head order. The published sizes (``write_synthetic``) have real
shapes and formats and serve to measure speed.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from loqal.formats import ENCODABLE, FORMATS, encode, find_format, random_blocks
from loqal.model.config import ExpertsConfig, ModelConfig, VisionConfig
from loqal.model.sizes import SIZES, layer_pattern
from loqal.model.tensor_names import Entry, entries
from loqal.testing.vocabularies import placeholder_vocabulary
from loqal.weights import gguf_writer, safetensors_writer
from loqal.weights.config_gguf import write_config, write_vision
from loqal.weights.config_json import write_config as write_json_config
from loqal.weights.export import from_hf, to_gguf, to_hf
from loqal.weights.source import OutTensor

__all__ = [
    "RECIPES",
    "from_hf",
    "random_tensors",
    "tensor_values",
    "tiny_config",
    "to_gguf",
    "to_hf",
    "write_gguf",
    "write_safetensors",
    "write_synthetic",
]

Floats = npt.NDArray[np.float32]


def tiny_config(kind: Literal["dense", "moe"] = "dense", **overrides: Any) -> ModelConfig:
    """A model of four layers (three Gated DeltaNet, one full attention), without vision and draft head.

    ``overrides`` replaces fields of ``ModelConfig``. ``num_draft_layers=1`` adds the draft head, ``vision=True`` a tiny
    vision tower.
    """
    if overrides.get("vision") is True:
        overrides["vision"] = VisionConfig(
            depth=2, width=64, num_heads=2, ffn_width=96, out_width=overrides.get("width", 64), num_positions=64
        )
    config = ModelConfig(
        width=64,
        layers=layer_pattern(4),
        vocab_size=320,
        num_heads=2,
        num_kv_heads=1,
        num_key_heads=2,
        num_value_heads=4,
        ffn_width=96 if kind == "dense" else None,
        experts=ExpertsConfig(4, 2, 32, 32) if kind == "moe" else None,
        tied_head=kind == "dense",
        context_len=4096,
    )
    return dataclasses.replace(config, **overrides)


def random_tensors(config: ModelConfig, seed: int = 0) -> dict[str, Floats]:
    """Float32 tensors by our names, scaled so that activations keep a size of about 1 and the state forgets slowly.

    Every value survives a round trip through BF16 in the convention of safetensors, so one model written in both
    formats is the same model bit for bit.
    """
    rng = np.random.default_rng(seed)
    return {entry.name: tensor_values(entry, rng) for entry in entries(config)}


def tensor_values(entry: Entry, rng: np.random.Generator) -> Floats:
    """Random values of one tensor, float32 of its shape, with the spread described at ``random_tensors``."""
    values: npt.NDArray[np.floating[Any]]
    if entry.conversion == "plus_one":
        return np.float32(1) + _bf16(rng.normal(0, 0.1, entry.shape))
    if entry.conversion == "decay":
        return (-np.exp(_bf16(rng.uniform(-0.5, 0.5, entry.shape)).astype(np.float64))).astype(np.float32)
    if entry.suffix == "delta.dt_bias":  # softplus of it is 0.001 to 0.1, so a state lives for 10 to 1000 tokens
        step = np.exp(rng.uniform(math.log(0.001), math.log(0.1), entry.shape))
        values = np.log(np.expm1(step))
    elif entry.name.endswith(("norm.weight", "norm1.weight", "norm2.weight", "delta.norm")):
        values = rng.normal(1, 0.1, entry.shape)
    elif len(entry.shape) == 1 and entry.part == "vision":
        values = rng.normal(0, 0.02, entry.shape)
    elif entry.suffix == "embed":
        values = rng.normal(0, 1, entry.shape)
    else:  # the inputs of one output: taps for the convolution, else the last axis
        values = rng.normal(0, entry.shape[-1] ** -0.5, entry.shape)
    return _bf16(values)


def _bf16(values: npt.NDArray[np.floating[Any]]) -> Floats:
    bits = encode("BF16", values.astype(np.float32)).view(np.uint16)
    return (bits.astype(np.uint32) << 16).view(np.float32).reshape(values.shape)


def write_safetensors(
    folder: Path,
    config: ModelConfig,
    tensors: Mapping[str, Floats],
    dtype: Literal["published", "BF16", "F16", "F32"] = "published",
    *,
    num_files: int = 1,
) -> Path:
    """Write ``config.json`` and the weights as transformers would, and return ``folder``.

    ``published`` is BF16 with ``A_log`` and the norm inside Gated DeltaNet in F32, like the published checkpoints.
    With more than one file there is an index, and the files are named as in the small published checkpoints.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(write_json_config(config), indent=2))
    state = to_hf(config, tensors)
    if config.vision is None:
        state = {name.replace("model.language_model.", "model."): values for name, values in state.items()}
    out = []
    for name, values in state.items():
        kept = dtype == "published" and name.endswith(("linear_attn.A_log", "linear_attn.norm.weight"))
        stored = "F32" if kept else "BF16" if dtype == "published" else dtype
        out.append(OutTensor(name, stored, values.shape, encode(stored, values)))
    if num_files == 1:
        safetensors_writer.write_file(folder / "model.safetensors", out, {"format": "pt"})
        return folder
    weight_map: dict[str, str] = {}
    for i in range(num_files):
        file_name = f"model.safetensors-{i + 1:05d}-of-{num_files:05d}.safetensors"
        safetensors_writer.write_file(folder / file_name, out[i::num_files], {"format": "pt"})
        weight_map |= {tensor.name: file_name for tensor in out[i::num_files]}
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def write_gguf(
    path: Path,
    config: ModelConfig,
    tensors: Mapping[str, Floats],
    formats: Mapping[str, str] | str = "F32",
    *,
    mmproj: Path | None = None,
    metadata: Mapping[str, Any] | None = None,
    vision_format: str = "F16",
) -> Path:
    """Write the model as llama.cpp's converter would, and return ``path``.

    ``formats`` is the format of every matrix of the text model, or maps our names or their ends inside a layer
    (``layers.0.mlp.down``, ``mlp.down``) to formats, with ``*`` for the others. A format whose blocks do not divide the
    rows becomes Q8_0 or F16; one loqal cannot encode is filled with random blocks of the same deviation. Norms and
    other small tensors are F32. The vision tower goes to ``mmproj`` with its matrices in ``vision_format`` (the patch
    embedding at most as short as F16, as llama.cpp does) and is left out when that is ``None``. ``metadata`` adds
    keys, for example a vocabulary.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    text, vision = [], []
    for name, (entry, values) in to_gguf(config, tensors).items():
        if entry.part == "vision":
            short = "F16" if entry.name.endswith("patch_embed.weight") and not FORMATS[vision_format].is_float else None
            stored = "F32" if entry.f32 else short or _choose(entry, vision_format)
            vision.append(OutTensor(name, stored, values.shape, encode(stored, values)))
        else:
            stored = "F32" if entry.f32 else _choose(entry, formats)
            text.append(OutTensor(name, stored, values.shape, _stored(stored, values)))
    keys = {"general.type": "model", "general.name": path.stem, **write_config(config), **(metadata or {})}
    gguf_writer.write_file(path, keys, text)
    if mmproj is not None and config.vision is not None:
        gguf_writer.write_file(mmproj, write_vision(config.vision), vision)
    return path


def _choose(entry: Entry, formats: Mapping[str, str] | str) -> str:
    if isinstance(formats, str):
        wanted = formats
    else:
        wanted = formats.get(entry.name) or formats.get(entry.suffix) or formats.get("*", "F32")
    for choice in (wanted, "Q8_0", "F16"):
        if entry.shape[-1] % FORMATS[choice].block_len == 0:
            return choice
    raise AssertionError("F16 has blocks of one value")


def _stored(format: str, values: Floats) -> npt.NDArray[np.uint8]:
    if format in ENCODABLE:
        return encode(format, values)
    rng = np.random.default_rng(values.size)
    return random_blocks(format, values.shape, rng, float(values.std()))


# Published sizes ------------------------------------------------------------------------------------------------------


def write_synthetic(path: Path, size: str, recipe: str, *, draft: bool = False, seed: int = 0) -> Path:
    """Write a GGUF file of a published size with random weights, and return ``path``. Tensors are made one at a time.

    The vocabulary is a placeholder of the right length, enough for llama.cpp to open the file as well.

    Args:
        size: a key of ``model.sizes.SIZES``, for example "4B".
        recipe: a key of ``RECIPES``, or the format of every matrix, for example "Q8_0" or "BF16". Where the blocks of a
            format do not divide the rows, the tensor is Q8_0; small tensors are F32.
        draft: whether the file has the draft head.

    Raises:
        UnsupportedError: there is no such format.
    """
    config = SIZES[size] if draft else dataclasses.replace(SIZES[size], num_draft_layers=0)
    if recipe not in RECIPES:
        find_format(recipe)
    tensors = []
    for index, entry in enumerate(entries(config)):
        if entry.part == "vision":
            continue
        stored = _recipe_format(entry, config, recipe)
        shape = entry.shape[1:] if entry.suffix == "experts.shared_router" else entry.shape
        tensors.append(OutTensor(entry.gguf, stored, shape, _maker(entry, stored, (seed, index))))
    keys = {
        "general.type": "model",
        "general.name": path.stem,
        **write_config(config),
        **placeholder_vocabulary(config.vocab_size),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    gguf_writer.write_file(path, keys, tensors)
    return path


def _maker(entry: Entry, stored: str, seed: tuple[int, int]) -> Callable[[], npt.NDArray[np.uint8]]:
    """Creates the bytes of one tensor: random blocks for matrices, values with a real spread for small tensors."""

    def make() -> npt.NDArray[np.uint8]:
        rng = np.random.default_rng(seed)
        if stored == "F32" and (entry.f32 or len(entry.shape) == 1):
            return encode("F32", tensor_values(entry, rng))
        return random_blocks(stored, entry.shape, rng, entry.shape[-1] ** -0.5)

    return make


def _recipe_format(entry: Entry, config: ModelConfig, recipe: str) -> str:
    if entry.f32 or len(entry.shape) == 1:
        return "F32"
    parts = entry.name.split(".")
    layer = int(parts[1]) if parts[0] == "layers" else 0
    chosen = RECIPES[recipe](entry, layer, len(config.layers)) if recipe in RECIPES else recipe
    return chosen if entry.shape[-1] % FORMATS[chosen].block_len == 0 else "Q8_0"


def _gets_more_bits(layer: int, num_layers: int) -> bool:
    """The layers that llama.cpp's _M recipes give more bits: the first and last eighth and every third between."""
    eighth = num_layers // 8
    return layer < eighth or layer >= 7 * num_layers // 8 or (layer - eighth) % 3 == 2


def _q4_k_m(entry: Entry, layer: int, num_layers: int) -> str:
    """Q4_K, with Q6_K for the head and, in every second layer or so, values, fused projections and down."""
    if entry.name in ("embed", "output"):
        return "Q6_K"
    is_sensitive = entry.suffix in ("attention.value", "delta.qkv", "mlp.down", "experts.down")
    return "Q6_K" if is_sensitive and _gets_more_bits(layer, num_layers) else "Q4_K"


RECIPES: Mapping[str, Callable[[Entry, int, int], str]] = {"Q4_K_M": _q4_k_m}
"""Formats as llama.cpp's quantizer mixes them: from a tensor, its layer and the number of layers to a format."""
