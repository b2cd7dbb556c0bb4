"""The Python API of quantization: quantize, compute importance, compare. Names and paths in, files and figures out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from loqal.chat.template.segments import IMAGE_SLOT, Segment
from loqal.errors import RequestError
from loqal.media.fetch import Policy
from loqal.model.vision_tower import VisionTower
from loqal.ops.choose import choose_encoder, choose_ops
from loqal.ops.interface import Ops
from loqal.quantize import activation_recorder
from loqal.quantize import importance as importance_file
from loqal.quantize.activation_recorder import Piece
from loqal.quantize.compare import Divergence, TensorDifference, compare_predictions, compare_tensors
from loqal.quantize.recipes import RECIPES, canonical, find_recipe
from loqal.quantize.writer import Result, write_quantized
from loqal.runtime import runtime
from loqal.runtime.media_encoder import MediaEncoder, largest_reading_bytes, make_preparer
from loqal.runtime.open_model import open_model, tokenizer_of
from loqal.types.messages import MediaPart
from loqal.weights.load import Checkpoint

__all__ = [
    "RECIPES",
    "Comparison",
    "Divergence",
    "Result",
    "TensorDifference",
    "compare",
    "measure_importance",
    "quantize",
]

Model = str | os.PathLike[str]
Progress = Callable[[int, int], None]
"""Gets how much is done, and how much there is."""

_PICTURE_TOKENS = 1024  # at most, of a picture whose importance is measured


def quantize(
    source: Model,
    recipe: str,
    target: Path | None = None,
    *,
    imatrix: Path | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Result:
    """Write a smaller GGUF file of a model. A file that was begun before is continued.

    Args:
        source: a file, folder or name, safetensors or GGUF.
        recipe: a key of ``RECIPES``, in any case.
        target: by default the source's name with the recipe, in the current folder.
        imatrix: an importance file, of ``measure_importance`` or of llama.cpp's tool.
        threads: by default the cores this process may use.

    Raises:
        CheckpointError: the source or the importance file cannot be used.
        RequestError: the recipe is unknown, or the source would be overwritten.
    """
    find_recipe(recipe)
    weights = None if imatrix is None else importance_file.read(imatrix)
    checkpoint = open_model(source)
    try:
        target = target or Path(f"{_stem(checkpoint)}-{canonical(recipe)}.gguf")
        encoder = choose_encoder(threads=threads)
        return write_quantized(checkpoint, target, recipe, encoder, importance=weights, progress=progress)
    finally:
        checkpoint.close()


def measure_importance(
    source: Model,
    text: str,
    target: Path,
    *,
    images: Sequence[Path] = (),
    mmproj: Path | None = None,
    max_tokens: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Run texts and images through a model and write how much every input of every weight mattered. Returns ``target``.

    Args:
        text: may be empty where there are images.
        images: each is shown once, in front of a piece of the text as long as there is some.
        mmproj: the separate vision tower of a GGUF model, where it does not lie with it.
        max_tokens: of the text.

    Raises:
        CheckpointError: the source cannot be used.
        RequestError: the text is too short to say anything, or the model sees no images.
        MediaError: an image cannot be read.
    """
    checkpoint = open_model(source, mmproj)
    try:
        ops = choose_ops(threads=threads)
        pieces = activation_recorder.text_pieces(_tokens(checkpoint, text, max_tokens) if text or not images else [])
        if images:
            shown = _shown(checkpoint, ops, images, pieces)
            pieces = shown + pieces[len(shown) :]
        total = sum(len(piece.token_ids) for piece in pieces)
        note = progress or (lambda done, total: None)
        sums = activation_recorder.collect(
            checkpoint.config, checkpoint.tensors, ops, pieces, lambda done: note(done, total)
        )
        facts: dict[str, object] = {"imatrix.datasets": ["text", "images"] if images else ["text"]}
        facts |= {"imatrix.chunk_size": activation_recorder.CHUNK_TOKENS, "imatrix.chunk_count": len(pieces)}
        return importance_file.write(target, sums, facts)
    finally:
        checkpoint.close()


def _shown(checkpoint: Checkpoint, ops: Ops, images: Sequence[Path], texts: Sequence[Piece]) -> list[Piece]:
    """Images, each with the piece of text that follows it, if there is one."""
    config, tokenizer = checkpoint.config.vision, tokenizer_of(checkpoint)
    tower = None if config is None else VisionTower(config, ops, checkpoint.tensors)
    preparer = make_preparer(config, checkpoint.metadata, Policy())
    media_encoder = MediaEncoder(tower, preparer, tokenizer, 0, largest_reading_bytes(config, checkpoint.metadata))
    pieces = []
    for index, image in enumerate(images):
        part = MediaPart("image", image, max_tokens=_PICTURE_TOKENS)
        seen = media_encoder.plan([Segment(IMAGE_SLOT, is_template=True, media=part)])
        ids = tokenizer.encode(seen.segments) + (list(texts[index].token_ids) if index < len(texts) else [])
        positions, spans = media_encoder.encode(ids, seen)
        assert positions is not None
        pieces.append(Piece(ids, positions, [(span.start, span.embed()) for span in spans]))
    return pieces


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two files beside each other; ``divergence`` is there when a text was given."""

    differences: tuple[TensorDifference, ...]  # in the order of the network
    divergence: Divergence | None

    @property
    def suspicious(self) -> tuple[TensorDifference, ...]:
        """The tensors that differ by more than their formats explain."""
        return tuple(entry for entry in self.differences if entry.is_suspicious)


def compare(
    first: Model,
    second: Model,
    text: str | None = None,
    *,
    max_tokens: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Compare two files of one model: their tensors and, on a text, what they predict. ``first`` is the truth.

    Raises:
        CheckpointError: a file cannot be used.
        RequestError: the files are of different shapes, or the text is too short.
    """
    a, b = open_model(first), open_model(second)
    try:
        if (a.config.width, a.config.layers, a.config.vocab_size) != (
            b.config.width,
            b.config.layers,
            b.config.vocab_size,
        ):
            raise RequestError(
                f"{a.name} and {b.name} are not the same model.",
                "Their shapes differ.",
                "Compare two quantizations of one model.",
            )
        differences = tuple(compare_tensors(a, b))
        ids = None if text is None else _tokens(a, text, max_tokens)
    finally:
        a.close()
        b.close()
    if ids is None:
        return Comparison(differences, None)
    note = progress or (lambda done, total: None)
    with runtime.load(first, threads=threads) as one, runtime.load(second, threads=threads) as other:
        divergence = compare_predictions(one.logits, other.logits, ids, lambda done: note(done, len(ids)))
    return Comparison(differences, divergence)


def _tokens(checkpoint: Checkpoint, text: str, max_tokens: int | None) -> list[int]:
    ids = tokenizer_of(checkpoint).encode_with_control(text)[:max_tokens]
    if len(ids) < 2:
        raise RequestError(
            "The text has fewer than two tokens.", "It says nothing about a model.", "Give a longer one."
        )
    return ids


def _stem(checkpoint: Checkpoint) -> str:
    stem = checkpoint.files[0].stem if checkpoint.format == "gguf" else checkpoint.name
    for known in sorted((*RECIPES, "00001"), key=len, reverse=True):
        if stem.upper().endswith("-" + known):
            return stem[: -len(known) - 1]
    return stem


def texts(paths: list[Path]) -> Iterator[str]:
    """The texts of some files. Raises RequestError for one that is no text."""
    for path in paths:
        try:
            yield path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RequestError(f"{path} cannot be read.", f"{error}.", "Give a UTF-8 text file.") from None
