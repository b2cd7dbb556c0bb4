"""Pictures, videos, towers and conversations with media against recordings of transformers in float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from golden import vision_cases
from golden.logit_cases import digest
from golden.vision_check import SCENE_BOUNDS, SceneRecording, error

from loqal.media.resize_rules import VideoRules
from loqal.media.video import spread, timestamps
from loqal.model.vision_tower import VisionTower
from loqal.ops.choose import choose_ops
from loqal.testing.checkpoints import write_gguf, write_safetensors
from loqal.weights.load import open_checkpoint
from machine import Machine, stored

RECORDED = np.load(vision_cases.FOLDER / "vision.npz")
TOWER_BOUND = 1e-5
F16_BOUND = 1e-2


@pytest.mark.parametrize(
    "index", range(len(vision_cases.PICTURES)), ids=lambda i: "x".join(map(str, vision_cases.PICTURES[i]))
)
def test_pictures(index: int) -> None:
    view = vision_cases.picture(index).views[0]
    assert (view.grid.rows, view.grid.columns) == tuple(RECORDED["grids"][index])
    levels = vision_cases.sampled(view.patches().read(0, view.grid.num_patches))
    assert np.abs(levels.astype(int) - RECORDED["values"][index]).max() <= 1


@pytest.mark.parametrize("index", range(len(vision_cases.VIDEOS)))
def test_videos(index: int) -> None:
    total, fps, width, height, max_tokens = vision_cases.VIDEOS[index]
    rules = VideoRules().within(max_tokens, None, None)
    count = rules.num_frames(total, fps)
    indices = spread(total, count)
    recorded = {key: RECORDED[f"video{index}_{key}"].tolist() for key in ("indices", "times", "size")}
    assert indices == recorded["indices"][:count]
    assert timestamps(indices, fps, 2) == recorded["times"]
    assert list(rules.size(count, width, height)) == recorded["size"]


@pytest.mark.parametrize("grid", vision_cases.GRIDS, ids=lambda grid: "x".join(map(str, grid)))
@pytest.mark.parametrize("name", vision_cases.TINY_TOWERS)
@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_towers(backend: str, name: str, grid: tuple[int, int]) -> None:
    if backend == "reference" and grid[0] * grid[1] > 100:
        grid = (4, 6)  # the specification takes its time
    config = vision_cases.TINY_TOWERS[name]
    tensors = vision_cases.tower_tensors(config)
    assert digest(tensors) == RECORDED[f"{name}_digest"], "the weights are not the recorded ones: record again"
    tower = VisionTower(config, choose_ops(backend), stored(tensors))
    patches = vision_cases.ArrayPatches(vision_cases.tower_patches(*grid))
    encoded = vision_cases.some_rows(tower.encode(patches, *grid))
    assert vision_cases.relative_error(encoded, RECORDED[f"{name}_{grid[0]}x{grid[1]}"]) < TOWER_BOUND


@pytest.mark.parametrize("kv_bits", SCENE_BOUNDS)
@pytest.mark.parametrize("name", vision_cases.SCENES)
def test_conversations(name: str, kv_bits: int, tmp_path: Path) -> None:
    scene, recording = vision_cases.SCENES[name], SceneRecording.load(name)
    tensors = scene.tensors()
    assert digest(tensors) == recording.digest, "the weights are not the recorded ones: record again"
    assert (scene.positions() == recording.positions).all()
    checkpoint = open_checkpoint(write_safetensors(tmp_path, scene.config, tensors, "F32"))
    assert checkpoint.config.vision is not None
    ops = choose_ops()
    tower = VisionTower(checkpoint.config.vision, ops, checkpoint.tensors)
    machine = Machine.of(checkpoint, ops, kv_bits=kv_bits)
    assert error(machine, tower, scene, recording) <= SCENE_BOUNDS[kv_bits]


def test_a_tower_in_a_file_of_its_own(tmp_path: Path) -> None:
    """The mmproj file holds F16; the text is the recorded one in F32."""
    scene, recording = vision_cases.SCENES["mixed"], SceneRecording.load("mixed")
    path = write_gguf(tmp_path / "model.gguf", scene.config, scene.tensors(), mmproj=tmp_path / "mmproj.gguf")
    checkpoint = open_checkpoint(path, mmproj=tmp_path / "mmproj.gguf")
    assert checkpoint.config.vision is not None
    tower = VisionTower(checkpoint.config.vision, choose_ops(), checkpoint.tensors)
    machine = Machine.of(checkpoint, choose_ops(), kv_bits=32)
    assert error(machine, tower, scene, recording) <= F16_BOUND
