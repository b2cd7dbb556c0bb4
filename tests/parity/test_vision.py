"""What is seen against transformers in float32, live: the recorded cases, every pixel of them, and the real towers."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from golden import reference_vision, vision_cases
from golden.vision_check import SCENE_BOUNDS, SceneRecording, error

from loqal.formats import encode
from loqal.formats.tensor import Tensor
from loqal.model.vision_tower import VisionTower
from loqal.ops.choose import choose_ops
from loqal.testing.checkpoints import write_safetensors
from loqal.weights.load import open_checkpoint
from machine import Machine

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]

LEVEL = 2 / 255  # a step of a byte, normalised
TOWER_BOUNDS = {"F32": 1e-5, "F16": 1e-2, "BF16": 1e-5}
"""The random weights are BF16 values, so BF16 stores them exactly."""
REAL_GRID = (22, 30)


def test_pictures_to_the_pixel() -> None:
    worst = worst_torch = 0.0
    for index, size in enumerate(vision_cases.PICTURES):
        item = vision_cases.picture(index)
        view = item.views[0]
        expected, grid = reference_vision.picture(index)
        assert grid == (view.grid.rows, view.grid.columns), size
        found = view.patches().read(0, view.grid.num_patches)
        worst = max(worst, float(np.abs(found - expected).max()))
        # torch rounds between its two passes as Pillow does, but for tall pictures takes them in the other order.
        resized = reference_vision.torch_resized(vision_cases.pixels(*size), *item.size).astype(int)
        off = np.abs(resized - item.source.pixels(*item.size))
        worst_torch = max(worst_torch, float((off > 1).mean()))
        assert off.max() <= 10, size
    print(
        f"{len(vision_cases.PICTURES)} pictures: off by {worst / LEVEL:.2f} levels; "
        f"of torch's own resizing at most {worst_torch:.1%} of a picture's values by more than one"
    )
    assert worst <= LEVEL
    assert worst_torch < 0.02


@pytest.mark.parametrize("name", vision_cases.SCENES)
def test_conversations(name: str, tmp_path: Path) -> None:
    scene = vision_cases.SCENES[name]
    write_safetensors(tmp_path, scene.config, scene.tensors(), "F32")
    vision_cases.set_marks(tmp_path)
    recording = SceneRecording.of(reference_vision.scene(scene, tmp_path), 0)
    assert (scene.positions() == recording.positions).all()
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.config.vision is not None
    tower = VisionTower(checkpoint.config.vision, choose_ops(), checkpoint.tensors)
    for kv_bits, bound in SCENE_BOUNDS.items():
        found = error(Machine.of(checkpoint, choose_ops(), kv_bits=kv_bits), tower, scene, recording)
        print(f"{name}, keys and values in {kv_bits} bits: {found:.2e}")
        assert found <= bound


@pytest.mark.parametrize("size", vision_cases.REAL_TOWERS)
def test_real_towers(size: str) -> None:
    config = vision_cases.REAL_TOWERS[size]
    tensors = vision_cases.tower_tensors(config)
    patches = vision_cases.tower_patches(*REAL_GRID)
    model = reference_vision.tower(config, tensors)
    expected = reference_vision.encode(model, patches, *REAL_GRID)
    del model
    gc.collect()
    for format, bound in TOWER_BOUNDS.items():
        weights = {
            name: Tensor(name, kind, values.shape, encode(kind, values).reshape(-1), "test")
            for name, values in tensors.items()
            for kind in [format if values.ndim > 1 and "position" not in name else "F32"]
        }
        tower = VisionTower(config, choose_ops(), weights)
        found = vision_cases.relative_error(tower.encode(vision_cases.ArrayPatches(patches), *REAL_GRID), expected)
        print(f"{size} tower, {format}: relative error {found:.1e}")
        assert found < bound
        del tower, weights
        gc.collect()
