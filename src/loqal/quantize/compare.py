"""Whether a file is as good as its source: tensor by tensor, and by what both predict on a text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from loqal.formats import FORMATS, decode, num_bytes
from loqal.formats.loss import Loss, loss
from loqal.formats.tensor import Tensor
from loqal.model.tensor_names import entries
from loqal.weights.load import Checkpoint

Floats = npt.NDArray[np.float32]

_SLICE_VALUES = 1 << 22


@dataclass(frozen=True, slots=True)
class TensorDifference:
    """One tensor in both files."""

    name: str
    formats: tuple[str, str]
    difference: float  # root mean square, relative to that of the first file's values
    expected: float  # what the formats explain

    @property
    def is_suspicious(self) -> bool:
        """More than the formats explain, or no number at all."""
        return not self.difference <= 2 * self.expected


def compare_tensors(first: Checkpoint, second: Checkpoint) -> Iterator[TensorDifference]:
    """Every tensor that differs, in the order of the network. The first of them is where outputs begin to differ."""
    for entry in entries(first.config):
        if entry.name not in first.tensors or entry.name not in second.tensors:
            continue
        a, b = first.tensors[entry.name], second.tensors[entry.name]
        if a.format == b.format and np.array_equal(a.data, b.data):
            continue
        lost = Loss()
        for one, other in zip(_slices(a), _slices(b), strict=True):
            with np.errstate(invalid="ignore", over="ignore"):
                lost += loss(one, other)
        if lost.squared != 0:
            expected = max(FORMATS[a.format].typical_loss, FORMATS[b.format].typical_loss)
            yield TensorDifference(entry.gguf, (a.format, b.format), lost.plain, expected)


def _slices(tensor: Tensor) -> Iterator[Floats]:
    cols = tensor.shape[-1] if tensor.shape else 1
    rows = int(np.prod(tensor.shape)) // cols
    row_bytes, step = num_bytes(tensor.format, (cols,)), max(1, _SLICE_VALUES // cols)
    for row in range(0, rows, step):
        count = min(step, rows - row)
        yield decode(tensor.format, tensor.data[row * row_bytes : (row + count) * row_bytes], (count, cols))


@dataclass(frozen=True, slots=True)
class Divergence:
    """What both models predict after each of some tokens of a text; the first is the truth."""

    num_tokens: int
    mean: float  # Kullback-Leibler divergence in nats
    median: float
    percentile_99: float
    largest: float
    same_top: float  # share of tokens after which both find the same token most likely
    perplexity: tuple[float, float]

    @classmethod
    def of(cls, per_token: Sequence[float], same: Sequence[bool], surprise: tuple[float, float]) -> Divergence:
        """Summarise figures of single tokens; ``surprise`` is the mean negative log-probability of the text."""
        values = np.asarray(per_token, np.float64)
        return cls(
            num_tokens=len(values),
            mean=float(values.mean()),
            median=float(np.median(values)),
            percentile_99=float(np.quantile(values, 0.99)),
            largest=float(values.max()),
            same_top=float(np.mean(same)),
            perplexity=(float(np.exp(surprise[0])), float(np.exp(surprise[1]))),
        )


def compare_predictions(
    first: Callable[[Sequence[int]], Floats],
    second: Callable[[Sequence[int]], Floats],
    token_ids: Sequence[int],
    progress: Callable[[int], None],
    chunk_tokens: int = 256,
) -> Divergence:
    """Run a text through two models that map token ids to logits [T V]; pieces are read from an empty state each."""
    per_token: list[float] = []
    same: list[bool] = []
    surprises: list[tuple[float, float]] = []
    for start in range(0, len(token_ids), chunk_tokens):
        piece = list(token_ids[start : start + chunk_tokens])
        a, b = _log_softmax(first(piece)), _log_softmax(second(piece))
        per_token += np.maximum(0, np.einsum("tv,tv->t", np.exp(a), a - b)).tolist()
        same += (a.argmax(axis=1) == b.argmax(axis=1)).tolist()
        following = np.arange(len(piece) - 1), np.array(piece[1:], np.int64)
        surprises += [(-x, -y) for x, y in zip(a[following].tolist(), b[following].tolist(), strict=True)]
        progress(min(start + chunk_tokens, len(token_ids)))
    means = np.mean(surprises, axis=0) if surprises else (0.0, 0.0)
    return Divergence.of(per_token, same, (float(means[0]), float(means[1])))


def _log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max(axis=1, keepdims=True)
    total = np.exp(shifted).sum(axis=1, keepdims=True, dtype=np.float64)
    out: Floats = (shifted - np.log(total)).astype(np.float32)
    return out
