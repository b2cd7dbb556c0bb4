"""Makes a smaller GGUF file of a model, and says what every tensor lost.

Every tensor of the source is kept: the draft head in the file itself, the vision tower of a source that has it inside
in an mmproj file beside it. The bytes depend on source, recipe and importance alone.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from loqal.errors import RequestError
from loqal.formats import FORMATS, decode, encode, num_bytes
from loqal.formats.loss import Loss
from loqal.formats.tensor import Tensor
from loqal.hub import provenance
from loqal.model.tensor_names import Entry, entries
from loqal.quantize.recipes import FILE_TYPES, Recipe, canonical, find_recipe, format_of
from loqal.quantize.resumable import write_resumable
from loqal.quantize.vocabulary import vocabulary_keys
from loqal.weights import gguf_writer
from loqal.weights.config_gguf import write_config, write_vision
from loqal.weights.load import Checkpoint
from loqal.weights.source import OutTensor

if TYPE_CHECKING:
    from loqal.ops.backends.native_encoder import Encoder

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

_SLICE_VALUES = 1 << 24  # decoded at a time
_DROPPED = re.compile(r"split\.|general\.(alignment|file_type|quantization_version|type)$|quantize\.|.*\.vision\.|mtp")


@dataclass(frozen=True, slots=True)
class TensorResult:
    """What became of one tensor."""

    name: str  # in the GGUF file
    source: str  # its format before
    format: str
    num_values: int
    size_bytes: int
    loss: Loss
    has_importance: bool


@dataclass(frozen=True, slots=True)
class Result:
    """What was written."""

    path: Path
    mmproj: Path | None
    tensors: tuple[TensorResult, ...]
    notes: tuple[str, ...]

    @property
    def size_bytes(self) -> int:
        """Of the tensors."""
        return sum(tensor.size_bytes for tensor in self.tensors)

    @property
    def bits_per_weight(self) -> float:
        """Of all tensors together."""
        return 8 * self.size_bytes / sum(tensor.num_values for tensor in self.tensors)


def write_quantized(
    checkpoint: Checkpoint,
    target: Path,
    recipe_name: str,
    encoder: Encoder,
    *,
    importance: Mapping[str, Floats] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Write ``target``, or what is missing of it when it was begun before.

    Args:
        checkpoint: the source, in either format.
        target: a GGUF file.
        recipe_name: a key of ``recipes.RECIPES``.
        encoder: the native encoders.
        importance: mean squares by the tensors' GGUF names, [matrices cols]; see ``importance``.
        progress: gets the values that are done, and all.

    Raises:
        RequestError: the recipe is unknown, or source and target are the same file.
        FormatError: importance and tensor do not fit.
        TensorError: a value cannot be stored in the format.
        OSError: the target cannot be written.
    """
    recipe = find_recipe(recipe_name)
    if any(target.exists() and path.samefile(target) for path in checkpoint.files):
        raise RequestError(f"{target} is the source itself.", "It would be overwritten.", "Choose another target.")
    job = _Job(checkpoint, recipe, encoder, importance or {}, progress or (lambda done, total: None))
    target.parent.mkdir(parents=True, exist_ok=True)
    metadata = _metadata(checkpoint, canonical(recipe_name), importance is not None)
    notes = list(job.notes())
    written = write_resumable(target, metadata, job.tensors(), job.result_of, job.whole, job.order())
    tensors = tuple(TensorResult(entry.name, loss=Loss(**entry.notes.pop("loss")), **entry.notes) for entry in written)
    mmproj = _write_vision(checkpoint, target)
    source = ", ".join(path.name for path in checkpoint.files)
    provenance.note_beside(target, source, _licence(checkpoint), f"quantized to {canonical(recipe_name)} by loqal")
    return Result(target, mmproj, tensors, tuple(notes))


class _Job:
    def __init__(
        self,
        checkpoint: Checkpoint,
        recipe: Recipe,
        encoder: Encoder,
        importance: Mapping[str, Floats],
        progress: Callable[[int, int], None],
    ) -> None:
        self._checkpoint, self._recipe, self._encoder, self._importance = checkpoint, recipe, encoder, importance
        self._entries = [entry for entry in entries(checkpoint.config) if entry.part != "vision"]
        self._progress = progress
        self._results: dict[str, dict[str, Any]] = {}
        self._formats = {entry.name: format_of(recipe, entry, checkpoint.config) for entry in self._entries}
        self._sizes = [int(np.prod(entry.shape)) for entry in self._entries]

    def order(self) -> str:
        """What the bytes depend on beside the header: the source's tensors and the importance."""
        digest = hashlib.sha256()
        for path in self._checkpoint.files:
            stat = path.stat()
            digest.update(f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns};".encode())
        for name, values in sorted(self._importance.items()):
            digest.update(name.encode() + values.tobytes())
        return digest.hexdigest()

    def notes(self) -> Sequence[str]:
        """What a user should know before."""
        found = []
        coarse = sorted({f for e in self._entries if (f := self._source_format(e)) and not FORMATS[f].is_float})
        if coarse:
            found.append(f"the source is quantized itself ({', '.join(coarse)}): what it lost stays lost")
        fallbacks = [e for e in self._entries if self._formats[e.name] == "F16" and self._recipe.base != "F16"]
        if fallbacks:
            found.append(f"{len(fallbacks)} tensors have rows that no block format divides, and are F16")
        absent = [e.gguf for e in self._entries if self._importance and len(e.shape) > 1 and not e.f32]
        absent = [name for name in absent if name not in self._importance]
        if absent:
            found.append(f"{len(absent)} matrices are not in the importance file, {absent[0]} first")
        return found

    def tensors(self) -> list[OutTensor]:
        """The tensors in the order of the network, made when their turn comes."""
        found = []
        for entry in self._entries:
            shape = entry.shape[1:] if entry.suffix == "experts.shared_router" else entry.shape
            made = functools.partial(self._made, entry)
            found.append(OutTensor(entry.gguf, self._formats[entry.name], shape, made))
        return found

    def result_of(self, name: str) -> dict[str, Any]:
        """What became of a tensor that was just made."""
        return self._results.pop(name)

    def whole(self, num_tensors: int, size_bytes: int) -> None:
        """Note that so many tensors are written."""
        self._progress(sum(self._sizes[:num_tensors]), sum(self._sizes))

    def _source_format(self, entry: Entry) -> str | None:
        return self._checkpoint.tensors.format(entry.name) if len(entry.shape) > 1 and not entry.f32 else None

    def _made(self, entry: Entry) -> Bytes:
        tensor, format = self._checkpoint.tensors[entry.name], self._formats[entry.name]
        weights = self._weights(entry)
        if tensor.format == format:
            out, loss = np.array(tensor.data), Loss()
        else:
            out, loss = self._encoded(tensor, format, weights)
        self._results[entry.gguf] = {
            "source": tensor.format,
            "format": format,
            "num_values": int(np.prod(entry.shape)),
            "size_bytes": len(out),
            "loss": asdict(loss),
            "has_importance": weights is not None,
        }
        return out

    def _weights(self, entry: Entry) -> Floats | None:
        """Importance of the inputs, [matrices cols]."""
        weights = self._importance.get(entry.gguf)
        if weights is None or entry.f32:
            return None
        matrices = entry.shape[0] if len(entry.shape) == 3 else 1
        if weights.shape != (matrices, entry.shape[-1]):
            raise RequestError(
                f"The importance of {entry.gguf} has the shape {list(weights.shape)}.",
                f"The tensor has {matrices} matrices of {entry.shape[-1]} columns.",
                "Make the importance file from this model.",
            )
        return weights

    def _encoded(self, tensor: Tensor, format: str, weights: Floats | None) -> tuple[Bytes, Loss]:
        """Encode a tensor some rows at a time, so that a decoded copy never lies in memory whole."""
        matrices, cols = (tensor.shape[0] if len(tensor.shape) == 3 else 1), tensor.shape[-1]
        rows = int(np.prod(tensor.shape)) // cols // matrices
        row_in, row_out = num_bytes(tensor.format, (cols,)), num_bytes(format, (cols,))
        out, loss = np.empty(matrices * rows * row_out, np.uint8), Loss()
        step = max(1, _SLICE_VALUES // cols)
        for matrix in range(matrices):
            for row in range(0, rows, step):
                count = min(step, rows - row)
                first = matrix * rows + row
                data = tensor.data[first * row_in : (first + count) * row_in]
                source = tensor.format
                if not FORMATS[source].is_float:
                    data, source = decode(source, data, (count, cols)).reshape(-1).view(np.uint8), "F32"
                piece, lost = self._encoder.encode(
                    format, source, data, (count, cols), None if weights is None else weights[matrix]
                )
                out[first * row_out : (first + count) * row_out] = piece
                loss += lost
        return out, loss


def _metadata(checkpoint: Checkpoint, recipe: str, has_importance: bool) -> dict[str, Any]:
    keys: dict[str, Any] = {"general.type": "model", "general.name": checkpoint.name}
    if checkpoint.format == "gguf":
        prefix = ("qwen35.", "qwen35moe.")
        kept = {k: v for k, v in checkpoint.metadata.items() if not _DROPPED.match(k) and not k.startswith(prefix)}
        keys |= kept
    else:
        if checkpoint.tokenizer_json is not None:
            rows = checkpoint.config.vocab_size
            eos, template = checkpoint.eos_token_ids, checkpoint.chat_template
            keys |= vocabulary_keys(checkpoint.tokenizer_json, rows, eos, template)
        if checkpoint.size_label:
            keys["general.size_label"] = checkpoint.size_label
    keys |= write_config(checkpoint.config)
    keys |= {"general.file_type": FILE_TYPES[recipe], "general.quantization_version": 2}
    if has_importance:
        keys["quantize.imatrix.entries_count"] = 1
    return keys


def _licence(checkpoint: Checkpoint) -> str | None:
    licence = checkpoint.metadata.get("general.license")
    return licence if isinstance(licence, str) else None


def _write_vision(checkpoint: Checkpoint, target: Path) -> Path | None:
    """The vision tower as an mmproj file, matrices in F16 as the published ones have it."""
    config = checkpoint.config
    if config.vision is None:
        return None
    path = target.with_name(f"mmproj-{target.stem}.gguf")
    tensors = []
    for entry in entries(config):
        if entry.part != "vision":
            continue
        tensor = checkpoint.tensors[entry.name]
        stored = "F32" if entry.f32 or len(entry.shape) == 1 else "F16"
        values = decode(tensor.format, tensor.data, tensor.shape)
        for name, part in _frames(entry, values):
            tensors.append(OutTensor(name, stored, part.shape, encode(stored, part)))
    gguf_writer.write_file(path, write_vision(config.vision), tensors)
    return path


def _frames(entry: Entry, values: Floats) -> list[tuple[str, Floats]]:
    if entry.name != "vision.patch_embed.weight":
        return [(entry.gguf, values)]
    frames = values.reshape(entry.hf_shape)  # one tensor per frame of a patch
    count = frames.shape[2]
    names = [entry.gguf if t == 0 else f"{entry.gguf}.{t}" for t in range(count)]
    return [(name, np.ascontiguousarray(frames[:, :, t])) for t, name in enumerate(names)]
