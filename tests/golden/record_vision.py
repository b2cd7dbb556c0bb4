"""Records what the reference implementation sees, for the cases of vision_cases.py.

    PYTHONPATH=src:tests python -m golden.record_vision

with torch 2.13.0 and transformers 5.23 installed writes vision.npz and scene_NAME.npz beside this file.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from golden import reference_vision, vision_cases
from golden.logit_cases import digest
from golden.vision_check import SceneRecording

from loqal.testing.checkpoints import write_safetensors


def main() -> None:
    np.savez_compressed(vision_cases.FOLDER / "vision.npz", **_pictures(), **_videos(), **_towers())
    for name, scene in vision_cases.SCENES.items():
        with tempfile.TemporaryDirectory() as folder:
            tensors = scene.tensors()
            write_safetensors(Path(folder), scene.config, tensors, "F32")
            vision_cases.set_marks(Path(folder))
            recording = SceneRecording.of(reference_vision.scene(scene, Path(folder)), digest(tensors))
        recording.save(name)
        print(f"{name}: {len(recording.positions)} tokens, std {recording.std:.3f}")


def _pictures() -> dict[str, Any]:
    grids, values = [], []
    for index in range(len(vision_cases.PICTURES)):
        patches, grid = reference_vision.picture(index)
        grids.append(grid)
        values.append(vision_cases.sampled(patches))
    return {"grids": np.array(grids, np.int32), "values": np.stack(values)}


def _videos() -> dict[str, Any]:
    found = {}
    for index, case in enumerate(vision_cases.VIDEOS):
        found |= {f"video{index}_{key}": value for key, value in reference_vision.video(*case).items()}
    return found


def _towers() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, config in vision_cases.TINY_TOWERS.items():
        tensors = vision_cases.tower_tensors(config)
        model = reference_vision.tower(config, tensors)
        found[f"{name}_digest"] = digest(tensors)
        for rows, columns in vision_cases.GRIDS:
            encoded = reference_vision.encode(model, vision_cases.tower_patches(rows, columns), rows, columns)
            found[f"{name}_{rows}x{columns}"] = vision_cases.some_rows(encoded)
    return found


if __name__ == "__main__":
    main()
