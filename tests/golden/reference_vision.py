"""Runs the vision parts of transformers in float32 over vision_cases.py. Needs torch and transformers.

torchvision is not installed beside them, so pictures go through the reference's Pillow processor, and of its video
processor only what needs no torchvision is called.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from golden.vision_cases import BOUNDS, IMAGE, NUM_GENERATED, PICTURES, VIDEO, Scene, pixels, tower_hf_names
from transformers import Qwen3_5ForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen3_5.configuration_qwen3_5 import Qwen3_5VisionConfig
from transformers.models.qwen3_5.modeling_qwen3_5 import Qwen3_5VisionModel
from transformers.models.qwen3_vl import processing_qwen3_vl

from loqal.model.config import VisionConfig
from loqal.ops.interface import FloatArray, IntArray

# The package itself offers this module only where torchvision is installed; these parts of it do without.
_VIDEO = importlib.import_module("transformers.models.qwen3_vl.video_processing_qwen3_vl")
_FAMILY = {"patch_size": 16, "temporal_patch_size": 2, "merge_size": 2, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}


def picture(index: int) -> tuple[FloatArray, tuple[int, int]]:
    """Patches and grid of one of PICTURES, by the reference's processor."""
    low, high = BOUNDS[index % len(BOUNDS)]
    size = {"shortest_edge": 65_536, "longest_edge": 16_777_216}
    if low is not None:
        size["shortest_edge"] = low * 1024
    if high is not None:
        size["longest_edge"] = high * 1024
    size["shortest_edge"] = min(size.values())
    processor = Qwen2VLImageProcessorPil(size=size, **_FAMILY)
    found = processor(images=[pixels(*PICTURES[index])], return_tensors="np", input_data_format="channels_last")
    _, rows, columns = found["image_grid_thw"][0].tolist()
    return found["pixel_values"], (rows, columns)


def torch_resized(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """The picture through the resizing that the reference's torchvision processor calls."""
    tensor = torch.from_numpy(image.copy()).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(tensor, (height, width), mode="bicubic", antialias=True)
    return resized[0].permute(1, 2, 0).numpy()


def video(total: int, fps: float, width: int, height: int, max_tokens: int | None) -> dict[str, Any]:
    """Frame indices, times and frame size of a video, by the functions of the reference's processors."""
    family = SimpleNamespace(fps=2, min_frames=4, max_frames=768)
    metadata = SimpleNamespace(total_num_frames=total, fps=fps)
    indices = _VIDEO.Qwen3VLVideoProcessor.sample_frames(family, metadata)
    most = 25_165_824 if max_tokens is None else max_tokens * 2048
    new_height, new_width = _VIDEO.smart_resize(len(indices), height, width, 2, 32, min(4096, most), most)
    times = processing_qwen3_vl.Qwen3VLProcessor._calculate_timestamps(None, indices, fps)
    return {"indices": indices, "times": np.array(times), "size": np.array([new_width, new_height])}


def tower(config: VisionConfig, tensors: dict[str, FloatArray]) -> Any:
    """The reference's tower with our weights."""
    model = Qwen3_5VisionModel(
        Qwen3_5VisionConfig(
            depth=config.depth,
            hidden_size=config.width,
            num_heads=config.num_heads,
            intermediate_size=config.ffn_width,
            out_hidden_size=config.out_width,
            num_position_embeddings=config.num_positions,
            attn_implementation="eager",
        )
    )
    names = tower_hf_names(config)
    state = {names[name][0]: torch.from_numpy(values.reshape(names[name][1])) for name, values in tensors.items()}
    model.load_state_dict(state)
    return model.float().eval()


@torch.no_grad()
def encode(model: Any, patches: FloatArray, rows: int, columns: int) -> FloatArray:
    """What the reference's tower makes of one picture."""
    grid = torch.tensor([[1, rows, columns]])
    return model(torch.from_numpy(patches), grid_thw=grid).pooler_output.numpy()


@torch.no_grad()
def scene(case: Scene, folder: Path) -> dict[str, Any]:
    """Positions and logits of prompt and greedy continuation, from the checkpoint in ``folder``."""
    model: Any = Qwen3_5ForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    ids, _, items = case.prompt()
    kinds = np.where(ids == IMAGE, 1, np.where(ids == VIDEO, 2, 0))
    inputs: dict[str, Any] = {
        "input_ids": torch.from_numpy(ids.astype(np.int64))[None],
        "mm_token_type_ids": torch.from_numpy(kinds.astype(np.int32))[None],
    }
    for kind, values, grid in (
        ("image", "pixel_values", "image_grid_thw"),
        ("video", "pixel_values_videos", "video_grid_thw"),
    ):
        chosen = [item for item in items if item.kind == kind]
        if chosen:
            rows = [view.patches().read(0, view.grid.num_patches) for item in chosen for view in item.views]
            grids = [(len(item.views), item.views[0].grid.rows, item.views[0].grid.columns) for item in chosen]
            inputs[values] = torch.from_numpy(np.concatenate(rows))
            inputs[grid] = torch.tensor(grids)
    positions, _ = model.model.get_rope_index(
        inputs["input_ids"],
        inputs["mm_token_type_ids"],
        image_grid_thw=inputs.get("image_grid_thw"),
        video_grid_thw=inputs.get("video_grid_thw"),
    )
    prompt_logits = model(**inputs).logits[0].numpy()
    output = model.generate(
        **inputs,
        max_new_tokens=NUM_GENERATED,
        min_new_tokens=NUM_GENERATED,
        do_sample=False,
        eos_token_id=None,
        output_logits=True,
        return_dict_in_generate=True,
    )
    drawn = np.concatenate([one.numpy() for one in output.logits])  # after the prompt and each token but the last
    generated: IntArray = output.sequences[0, len(ids) :].numpy().astype(np.int32)
    return {
        "positions": positions[:, 0].T.numpy().astype(np.int32),
        "generated": generated,
        "logits": np.concatenate([prompt_logits, drawn[1:]]),
    }
