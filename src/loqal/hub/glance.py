"""What a file is, from its first metadata: enough to list it, read in a millisecond. Opening it checks everything."""

from __future__ import annotations

import json
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from loqal.model.sizes import SIZES

ARCHITECTURES = ("qwen35", "qwen35moe")
_MODEL_TYPES = ("qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text")
_QUANT = re.compile(
    r"(?:^|[-_.])(?P<quant>(?:UD-)?(?:I?Q\d\w*|T?BF16|F16|F32|MXFP4\w*))(?:-\d{5}-of-\d{5})?$", re.IGNORECASE
)
_WIDTHS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_INTEGERS = {0: "<B", 2: "<H", 4: "<I", 5: "<i", 10: "<Q", 11: "<q"}
_STRING, _ARRAY = 8, 9
_LONGEST = 1 << 20


@dataclass(frozen=True, slots=True)
class HeaderSummary:
    """What the first metadata say."""

    architecture: str
    size: str | None  # a key of SIZES, by the shape
    kind: str  # general.type, "model" when absent

    @property
    def is_model(self) -> bool:
        """Whether loqal runs such files."""
        return self.architecture in ARCHITECTURES and self.kind == "model"

    @property
    def is_projector(self) -> bool:
        """Whether it is a separate vision tower."""
        return self.architecture == "clip"


def glance(path: Path) -> HeaderSummary | None:
    """Read the metadata up to the vocabulary; None for a file that is no GGUF file."""
    try:
        with path.open("rb") as file:
            if file.read(4) != b"GGUF" or _number(file, "<I") not in (2, 3):
                return None
            _number(file, "<Q")
            values = _values(file, min(_number(file, "<Q"), 4096))
    except (OSError, struct.error, ValueError, KeyError):
        return None
    architecture = str(values.get("general.architecture", ""))
    width, blocks = values.get(f"{architecture}.embedding_length"), values.get(f"{architecture}.block_count")
    drafts = values.get(f"{architecture}.nextn_predict_layers", 0)
    layers = blocks - drafts if isinstance(blocks, int) and isinstance(drafts, int) else None
    found = [size for size, config in SIZES.items() if (config.width, len(config.layers)) == (width, layers)]
    return HeaderSummary(architecture, found[0] if found else None, str(values.get("general.type", "model")))


def quant_of(stem: str) -> str | None:
    """The quantization a file's name states, without its ending."""
    match = _QUANT.search(stem)
    return match["quant"].upper() if match else None


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
        shape = (text["hidden_size"], text["num_hidden_layers"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    found = [size for size, entry in SIZES.items() if (entry.width, len(entry.layers)) == shape]
    return found[0] if found else None


def _values(file: BinaryIO, count: int) -> dict[str, int | str]:
    values: dict[str, int | str] = {}
    for _ in range(count):
        key = _text(file)
        if key.startswith("tokenizer."):
            break
        kind = _number(file, "<I")
        if kind == _STRING:
            values[key] = _text(file)
        elif kind == _ARRAY:
            inner, length = _number(file, "<I"), _number(file, "<Q")
            if inner == _STRING:
                for _ in range(min(length, 4096)):
                    _text(file)
            else:
                file.seek(length * _WIDTHS[inner], 1)
        elif kind in _INTEGERS:
            values[key] = _number(file, _INTEGERS[kind])
        else:
            file.seek(_WIDTHS[kind], 1)
    return values


def _number(file: BinaryIO, form: str) -> int:
    value: int = struct.unpack(form, file.read(struct.calcsize(form)))[0]
    return value


def _text(file: BinaryIO) -> str:
    length = _number(file, "<Q")
    if length > _LONGEST:
        raise ValueError("too long for metadata")
    return file.read(length).decode("utf-8", "replace")
