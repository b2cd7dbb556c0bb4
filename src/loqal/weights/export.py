"""Our tensors <-> float32 arrays under the names, and in the conventions, of the two file formats."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from loqal.errors import TensorError
from loqal.model.config import ModelConfig
from loqal.model.tensor_names import Entry, entries, hf_options, resolve
from loqal.weights.convert import CONVERSIONS, behind_keys, group_heads

Floats = npt.NDArray[np.float32]


def from_hf(config: ModelConfig, state: Mapping[str, npt.NDArray[np.floating]]) -> dict[str, Floats]:
    """Our float32 tensors from those of a transformers model, for example a state dict turned into arrays.

    Raises:
        TensorError: a tensor is missing, or the state has one that is no part of the model.
    """
    found = resolve(entries(config), state, lambda entry: hf_options(entry, config, "causal"))
    if found.missing or found.unused:
        names = [entry.hf for entry in found.missing] or list(found.unused)
        problem = "lacks" if found.missing else "has an unknown tensor,"
        raise TensorError(f"The state {problem} {names[0]}.", f"{len(names)} in all.", "Check the configuration.")
    tensors = {}
    for name, (entry, option) in found.found.items():
        sources = [np.asarray(state[source], np.float32).reshape(option.shape) for source in option.sources]
        converted = CONVERSIONS[option.conversion](sources, config)
        tensors[name] = np.ascontiguousarray(converted, np.float32).reshape(entry.shape)
    return tensors


def to_hf(config: ModelConfig, tensors: Mapping[str, Floats]) -> dict[str, Floats]:
    """The inverse of ``from_hf``, under the published names, experts fused."""
    state: dict[str, Floats] = {}
    for entry in entries(config):
        values = _to_hf(entry, np.asarray(tensors[entry.name], np.float32), config)
        if entry.hf in state:  # the up half of fused experts follows the gate half
            values = np.concatenate([state[entry.hf], values], axis=1)
        state[entry.hf] = np.ascontiguousarray(values)
    return state


def _to_hf(entry: Entry, values: Floats, config: ModelConfig) -> Floats:
    keys, heads = config.num_key_heads, config.num_value_heads
    match entry.conversion:
        case "split_gate" | "split_up":
            return values
        case "plus_one":
            values = values - np.float32(1)
        case "tile_qkv":
            values = behind_keys(values, config, group_heads)
        case "tile_rows":
            values = group_heads(values, 0, keys, heads)
        case "tile_columns":
            values = group_heads(values, 1, keys, heads)
        case "decay":
            values = group_heads(np.log(-values.astype(np.float64)).astype(np.float32), 0, keys, heads)
    return values.reshape(entry.hf_shape)


def to_gguf(config: ModelConfig, tensors: Mapping[str, Floats]) -> dict[str, tuple[Entry, Floats]]:
    """Float32 arrays under llama.cpp's names, each with its entry. Vision tensors belong in an mmproj file."""
    found: dict[str, tuple[Entry, Floats]] = {}
    for entry in entries(config):
        values = np.asarray(tensors[entry.name], np.float32)
        if entry.name == "vision.patch_embed.weight":  # one tensor per frame
            frames = values.reshape(entry.hf_shape)
            for t in range(frames.shape[2]):
                name = entry.gguf if t == 0 else f"{entry.gguf}.{t}"
                found[name] = (entry, np.ascontiguousarray(frames[:, :, t]))
        elif entry.suffix == "experts.shared_router":  # a single row, written as a vector
            found[entry.gguf] = (entry, values.reshape(-1))
        else:
            found[entry.gguf] = (entry, values)
    return found
