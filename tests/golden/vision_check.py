"""Runs conversations with media on a loaded model, as the reference did."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from golden.vision_cases import FOLDER, NUM_GENERATED, Scene

from loqal.model.vision_tower import VisionTower
from loqal.ops.interface import FloatArray, IntArray
from machine import Machine

KEPT = 12
SCENE_BOUNDS = {32: 3e-5, 16: 1e-3}
"""As for text, and half as much again for float32: the tower's roundings come on top. Exact arithmetic (the reference
backend) is off by 1.8e-5 from these recordings, so most of it is the recording's own."""


@dataclass(frozen=True)
class SceneRecording:
    """What the reference made of a conversation: N tokens of prompt, G of continuation."""

    digest: int
    positions: IntArray  # [N 3]
    generated: IntArray  # [G]
    rows: IntArray  # of prompt and continuation, ends and some between
    logits: FloatArray  # [rows V]
    std: float

    @staticmethod
    def of(found: dict[str, Any], digest: int) -> SceneRecording:
        """From all that the reference computed."""
        logits = found["logits"]
        rows = np.unique(np.linspace(0, len(logits) - 1, KEPT).astype(np.int32))
        rows = np.unique(np.concatenate([rows, np.arange(len(logits) - NUM_GENERATED, len(logits))])).astype(np.int32)
        return SceneRecording(
            digest, found["positions"], found["generated"], rows, logits[rows], float(found["logits"].std())
        )

    @staticmethod
    def load(name: str) -> SceneRecording:
        """The committed recording."""
        with np.load(FOLDER / f"scene_{name}.npz") as file:
            arrays = {key: file[key] for key in file.files}
        return SceneRecording(**{**arrays, "digest": int(arrays["digest"]), "std": float(arrays["std"])})

    def save(self, name: str) -> Path:
        """Write it beside this module."""
        path = FOLDER / f"scene_{name}.npz"
        arrays: dict[str, Any] = {key: np.asarray(getattr(self, key)) for key in self.__dataclass_fields__}
        np.savez_compressed(path, **arrays)
        return path


def inputs(tower: VisionTower, scene: Scene) -> list[tuple[int, FloatArray]]:
    """The rows that stand for the pictures of a conversation, and where."""
    _, placed, items = scene.prompt()
    views = [view for item in items for view in item.views]
    return [
        (place.start, tower.encode(view.patches(), view.grid.rows, view.grid.columns))
        for place, view in zip(placed, views, strict=True)
    ]


def logits(machine: Machine, tower: VisionTower, scene: Scene, generated: IntArray) -> FloatArray:
    """Logits of the prompt in one step and of the reference's continuation token by token: [N + G - 1, V]."""
    ids, _, _ = scene.prompt()
    positions = scene.positions()
    following = int(positions.max()) + 1
    state = machine.store.open()
    rows = [machine.hidden(state, ids, positions, inputs(tower, scene))]
    for index, token_id in enumerate(generated[:-1]):
        rows.append(machine.hidden(state, [int(token_id)], np.full((1, 3), following + index, np.int32)))
    machine.store.release(state)
    return machine.decoder.unembed(np.concatenate(rows))


def error(machine: Machine, tower: VisionTower, scene: Scene, recording: SceneRecording) -> float:
    """The largest error of a logit in standard deviations of the reference's."""
    found = logits(machine, tower, scene, recording.generated)
    return float(np.abs(found[recording.rows] - recording.logits).max() / recording.std)
