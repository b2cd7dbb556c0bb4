"""Towers, pictures and conversations that are compared with the reference, and the form of their recordings. No torch.

Weights and pixels come from seeds; a recording carries a digest of its weights.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from loqal.media.fetch import Policy
from loqal.media.prepare import Item, Preparer
from loqal.media.resize_rules import ImageRules, VideoRules
from loqal.model.config import ModelConfig, VisionConfig
from loqal.model.positions import Placed, rotary_positions
from loqal.model.sizes import SIZES
from loqal.model.tensor_names import entries
from loqal.ops.interface import FloatArray, IntArray
from loqal.testing.checkpoints import random_tensors, tensor_values, tiny_config
from loqal.types.messages import MediaPart

FOLDER = Path(__file__).parent
START, END, IMAGE, VIDEO = 300, 301, 302, 303
"""Token ids of the marks in the tiny vocabulary."""

NUM_GENERATED = 8

# Pictures: (width, height) of the source. The shapes the resizing must get right to the pixel.
# fmt: off
PICTURES = [
    (1, 1), (2, 3), (4000, 30), (30, 4000), (199, 1), (1, 199), (16, 16), (31, 33), (32, 32), (33, 31),
    (48, 48), (255, 256), (256, 256), (257, 255), (240, 272), (256, 64), (80, 1000), (1000, 80), (640, 480),
    (480, 640), (1024, 1024), (1023, 1025), (800, 600), (500, 333), (333, 500), (1280, 720), (720, 1280),
    (100, 100), (300, 100), (112, 112), (113, 97), (767, 513), (1500, 50), (50, 1500), (17, 340), (340, 17),
    (2000, 11), (64, 2048), (2048, 64), (641, 479), (367, 1041), (512, 512),
]
# fmt: on
BOUNDS = [(None, None), (None, 64), (200, 300), (1000, None)]
"""Least and most tokens asked for; the pictures take turns with them."""

# Videos: frames, frames per second, width, height, most tokens.
VIDEOS: list[tuple[int, float, int, int, int | None]] = [
    (2, 2.0, 64, 64, None),
    (3, 24.0, 96, 64, None),
    (100, 30.0, 320, 240, None),
    (1000, 29.97, 640, 360, None),
    (7, 25.0, 20, 500, None),
    (61, 23.976, 1920, 1080, None),
    (5000, 60.0, 1280, 720, 512),
    (40, 10.0, 33, 31, 64),
    (100000, 30.0, 640, 480, None),
    (9, 1.0, 100, 100, None),
    (48, 24.0, 128, 4000, 100),
]


def preparer() -> Preparer:
    """The rules of the published models."""
    return Preparer(ImageRules(), VideoRules(), Policy())


def pixels(width: int, height: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """A picture with slopes, edges and noise: [height width 3]."""
    rng = np.random.default_rng((seed, width, height))
    row, column = np.indices((height, width))
    smooth = 128 + 80 * np.sin(column / 7.0 + seed) + 40 * np.cos(row / 5.0)
    board = 60 * ((row // 9 + column // 11) % 2)
    noise = rng.integers(-40, 40, (height, width, 3))
    return np.clip(smooth[..., None] + board[..., None] + noise, 0, 255).astype(np.uint8)


def picture(index: int) -> Item:
    """One of PICTURES as it is planned."""
    low, high = BOUNDS[index % len(BOUNDS)]
    return preparer().prepare(MediaPart("image", pixels(*PICTURES[index]), min_tokens=low, max_tokens=high))


# Towers --------------------------------------------------------------------------------------------------------------


def tower_tensors(config: VisionConfig, seed: int = 1) -> dict[str, FloatArray]:
    """Random weights of a tower by our names."""
    rng = np.random.default_rng(seed)
    model = dataclasses.replace(tiny_config(), width=config.out_width, vision=config)
    return {entry.name: tensor_values(entry, rng) for entry in entries(model) if entry.part == "vision"}


def tower_hf_names(config: VisionConfig) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Our names to the reference's, without its prefix, and shapes."""
    model = dataclasses.replace(tiny_config(), width=config.out_width, vision=config)
    return {
        entry.name: (entry.hf.removeprefix("model.visual."), entry.hf_shape)
        for entry in entries(model)
        if entry.part == "vision"
    }


TINY_TOWERS = {
    "tower64": VisionConfig(depth=2, width=128, num_heads=2, ffn_width=96, out_width=48, num_positions=64),
    "tower72": VisionConfig(depth=3, width=144, num_heads=2, ffn_width=200, out_width=64, num_positions=49),
}
REAL_TOWERS = {size: vision for size in ("0.8B", "4B", "9B") if (vision := SIZES[size].vision) is not None}
GRIDS = [(2, 2), (4, 6), (26, 24), (2, 40)]
"""Patches by row and column; one has more than one span of keys."""


def tower_patches(rows: int, columns: int) -> FloatArray:
    """Normalised random patches [rows*columns 1536]."""
    rng = np.random.default_rng((rows, columns))
    return (rng.integers(0, 256, (rows * columns, 1536)) / 127.5 - 1).astype(np.float32)


class ArrayPatches:
    """Patches that are there already."""

    def __init__(self, values: FloatArray) -> None:
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def read(self, start: int, end: int) -> FloatArray:
        return self._values[start:end]


# Conversations -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scene:
    """A prompt of texts (numbers of tokens), images (width, height) and videos (frames, width, height)."""

    name: str
    parts: Sequence[int | tuple[int, int] | tuple[int, int, int]]
    seed: int = 1

    @property
    def config(self) -> ModelConfig:
        """A tiny model with a tower."""
        return tiny_config(num_heads=4, num_kv_heads=2, tied_head=False, vision=True)

    def tensors(self) -> dict[str, FloatArray]:
        """The weights by our names."""
        return random_tensors(self.config, self.seed)

    def items(self) -> list[Item]:
        """Its media, planned."""
        found = []
        for number, part in enumerate(self.parts):
            if isinstance(part, int):
                continue
            if len(part) == 2:
                found.append(preparer().prepare(MediaPart("image", pixels(*part, seed=number), max_tokens=64)))
            else:
                frames = [pixels(*part[1:], seed=100 * number + frame) for frame in range(part[0])]
                found.append(preparer().prepare(MediaPart("video", frames, max_tokens=48)))
        return found

    def prompt(self) -> tuple[IntArray, list[Placed], list[Item]]:
        """Token ids, where the pictures stand, and the media in order."""
        rng, items = np.random.default_rng(self.seed), self.items()
        ids: list[int] = []
        placed: list[Placed] = []
        waiting = iter(items)
        for part in self.parts:
            if isinstance(part, int):
                ids += rng.integers(0, START, part).tolist()
                continue
            item = next(waiting)
            for view in item.views:
                if view.seconds is not None:
                    ids += rng.integers(0, START, 5).tolist()  # stands for the time
                ids.append(START)
                placed.append(Placed(len(ids), view.tokens.rows, view.tokens.columns))
                ids += [IMAGE if item.kind == "image" else VIDEO] * view.num_tokens + [END]
        return np.array(ids, np.int32), placed, items

    def positions(self) -> IntArray:
        """Rotary positions of the prompt."""
        ids, placed, _ = self.prompt()
        return rotary_positions(len(ids), placed)


SCENES = {
    scene.name: scene
    for scene in (
        Scene("mixed", [7, (200, 90), 12, (5, 80, 120), 3, (90, 300), 9]),
        Scene("media_first", [(70, 70), (300, 100), (4, 64, 64), 6], seed=2),
        Scene("video_last", [30, (33, 65), (3, 100, 50), (9, 64, 96), 1], seed=3),
    )
}


def set_marks(folder: Path) -> None:
    """Write the token ids of the marks into a checkpoint's config.json."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config |= {"image_token_id": IMAGE, "video_token_id": VIDEO}
    config |= {"vision_start_token_id": START, "vision_end_token_id": END}
    path.write_text(json.dumps(config))


def sampled(patches: FloatArray) -> npt.NDArray[np.uint8]:
    """Some values of a picture's patches, as the levels they were before they were normalised."""
    flat = patches.reshape(-1)
    chosen = np.random.default_rng(flat.size).integers(0, flat.size, 400)
    return np.rint((flat[chosen].astype(np.float64) + 1) * 127.5).astype(np.uint8)


def some_rows(encoded: FloatArray) -> FloatArray:
    """A few rows of an encoded picture, the first and the last among them."""
    return encoded[np.unique(np.linspace(0, len(encoded) - 1, 8).astype(int))]


def relative_error(actual: FloatArray, expected: FloatArray) -> float:
    """The length of the difference by the length of what is right."""
    return float(np.linalg.norm(actual.astype(np.float64) - expected) / np.linalg.norm(expected.astype(np.float64)))
