"""What a file is, from its first metadata: enough to list it, read in a millisecond. Opening it checks everything."""

from __future__ import annotations

import itertools
import json
import mmap
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loqal.formats.gguf_header import BrokenHeaderError, HeaderWalk, UnreadableHeaderError, is_projector
from loqal.formats.split_files import stem_of
from loqal.model.sizes import SIZES

ARCHITECTURES = ("qwen35", "qwen35moe")
_MODEL_TYPES = ("qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text")
_PROJECTOR_ORDER = ("F16", "BF16", "F32")
_QUANT = re.compile(r"(?:^|[-_.])(?P<quant>(?:UD-)?(?:I?Q\d\w*|T?BF16|F16|F32|MXFP4\w*))$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class HeaderSummary:
    """What the first metadata say."""

    architecture: str
    size: str | None  # a key of SIZES
    kind: str  # general.type, "model" when absent
    is_projector: bool  # a separate vision tower

    @property
    def is_model(self) -> bool:
        """Whether loqal runs such files."""
        return self.architecture in ARCHITECTURES and self.kind == "model"


def read_summary(path: Path) -> HeaderSummary | None:
    """Read the metadata up to the vocabulary; None for a file that is not a readable GGUF file."""
    try:
        with path.open("rb") as file:
            walk = HeaderWalk(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)), str(path))
        values = _before_vocabulary(walk)
    except (OSError, ValueError, struct.error, BrokenHeaderError, UnreadableHeaderError):
        return None
    architecture = str(values.get("general.architecture", ""))
    return HeaderSummary(
        architecture=architecture,
        size=_size(values, architecture),
        kind=str(values.get("general.type", "model")),
        is_projector=is_projector(values),
    )


def _before_vocabulary(walk: HeaderWalk) -> dict[str, Any]:
    _, _, num_keys = walk.begin()
    return dict(itertools.takewhile(lambda entry: not entry[0].startswith("tokenizer."), walk.metadata(num_keys)))


def _size(values: Mapping[str, Any], architecture: str) -> str | None:
    """The published size: the one the header states, else the one of the same shape."""
    stated = values.get("general.size_label")
    if isinstance(stated, str) and stated in SIZES:
        return stated
    blocks, drafts = values.get(f"{architecture}.block_count"), values.get(f"{architecture}.nextn_predict_layers", 0)
    layers = blocks - drafts if isinstance(blocks, int) and isinstance(drafts, int) else None
    return _size_of_shape(values.get(f"{architecture}.embedding_length"), layers)


def _size_of_shape(width: object, num_layers: object) -> str | None:
    found = [size for size, config in SIZES.items() if (config.width, len(config.layers)) == (width, num_layers)]
    return found[0] if found else None


def quant_of(stem: str) -> str | None:
    """The quantization a file's name states. ``stem`` is the name without suffix and number of a part."""
    match = _QUANT.search(stem)
    return match["quant"].upper() if match else None


def is_projector_name(path: str) -> bool:
    """Whether a file that cannot be read yet is called like a separate vision tower."""
    return "mmproj" in path.rpartition("/")[2].lower()


def projector_order(path: str) -> tuple[int, str]:
    """Sorts the vision towers of one model, the one to use first."""
    stated = quant_of(stem_of(path))
    return (_PROJECTOR_ORDER.index(stated) if stated in _PROJECTOR_ORDER else len(_PROJECTOR_ORDER)), path


def is_checkpoint_folder(folder: Path) -> bool:
    """Whether a folder holds a whole safetensors checkpoint of the family."""
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        if not isinstance(config, dict) or config.get("model_type") not in _MODEL_TYPES:
            return False
        indexes = list(folder.glob("*.safetensors.index.json"))
        if not indexes:
            return any(path.exists() for path in folder.glob("*.safetensors"))
        names = set(json.loads(indexes[0].read_text("utf-8"))["weight_map"].values())
        return all((folder / name).exists() for name in names)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def size_of_folder(folder: Path) -> str | None:
    """The published size of a checkpoint folder, by its configuration."""
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        text = config.get("text_config", config)
        return _size_of_shape(text["hidden_size"], text["num_hidden_layers"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
