"""From our names to those of the two file formats and back."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest

from loqal.errors import TensorError
from loqal.model.tensor_names import entries
from loqal.testing.checkpoints import random_tensors, tiny_config
from loqal.weights.export import from_hf, to_gguf, to_hf

CONFIGS: dict[str, Any] = {
    "dense": tiny_config(),
    "moe": tiny_config("moe"),
    "drafting": tiny_config(num_draft_layers=1),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_round_trip(name: str) -> None:
    config = CONFIGS[name]
    tensors = random_tensors(config)
    back = from_hf(config, to_hf(config, tensors))
    assert set(back) == set(tensors)
    for key, values in tensors.items():
        assert np.allclose(back[key], values, rtol=1e-6), key


@pytest.mark.parametrize("name", CONFIGS)
def test_every_tensor_has_one_name_in_gguf(name: str) -> None:
    config = CONFIGS[name]
    found = to_gguf(config, random_tensors(config))
    assert len(found) == len(list(entries(config)))
    for key, (entry, values) in found.items():
        assert key == entry.gguf and values.size == np.prod(entry.shape)


def test_a_patch_embedding_is_one_tensor_per_frame() -> None:
    config = tiny_config(vision=True)
    tensors = random_tensors(config)
    found = {key: values for key, (entry, values) in to_gguf(config, tensors).items() if "patch_embd" in key}
    frames = [values for key, values in sorted(found.items()) if not key.endswith("bias")]
    assert len(frames) == 2
    joined = np.stack(frames, axis=2)
    assert np.array_equal(joined.reshape(-1), tensors["vision.patch_embed.weight"].reshape(-1))


Change = Literal["missing", "unknown"]


@pytest.mark.parametrize("change", ["missing", "unknown"])
def test_states_that_are_not_this_model(change: Change) -> None:
    state = to_hf(CONFIGS["dense"], random_tensors(CONFIGS["dense"]))
    if change == "missing":
        name = sorted(state)[3]
        del state[name]
    else:
        name = "model.something.weight"
        state[name] = np.zeros(3, np.float32)
    with pytest.raises(TensorError, match=name):
        from_hf(CONFIGS["dense"], state)
