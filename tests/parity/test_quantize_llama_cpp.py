"""Our quantized files beside llama.cpp's: it opens them and predicts the same, and its own lose no less."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("llama_cpp")

from golden import llama_peer
from golden.llama_cases import divergence

import loqal
import tiny_checkpoint
from loqal import formats
from loqal.formats.loss import loss
from loqal.model.config import ExpertsConfig
from loqal.model.tensor_names import entries
from loqal.ops.backends.native_encoder import Encoder
from loqal.quantize import api as quantize_api
from loqal.quantize import importance
from loqal.quantize.recipes import RECIPES
from loqal.testing.checkpoints import tiny_config
from loqal.weights.load import open_checkpoint

pytestmark = pytest.mark.parity
TEXT = "The quick brown fox jumps over the lazy dog; 12 times, 345 times. " * 20
IDS = np.random.default_rng(0).integers(0, 256, 256).astype(np.int32)
KINDS = {
    "dense": {"width": 256, "ffn_width": 512, "tied_head": False},
    "moe": {"kind": "moe", "width": 256, "experts": ExpertsConfig(4, 4, 256, 256)},
}
BOTH = [name for name in RECIPES if name in llama_peer.FILE_TYPES and name not in ("F16", "BF16")]
ROWS = tiny_config().vocab_size
# llama.cpp wants as many tokens as the embedding has rows, and a merge.
FILLED = {
    "tokenizer.ggml.tokens": [*tiny_checkpoint.byte_tokens(), *tiny_checkpoint.CONTROL, "th"]
    + [f"[PAD{index}]" for index in range(tiny_checkpoint.NUM_TOKENS + 1, ROWS)],
    "tokenizer.ggml.token_type": np.array(
        [1] * 256 + [3] * len(tiny_checkpoint.CONTROL) + [1] + [5] * (ROWS - tiny_checkpoint.NUM_TOKENS - 1), np.int32
    ),
    "tokenizer.ggml.merges": ["t h"],
}


@pytest.fixture(scope="module", params=KINDS)
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    return tiny_checkpoint.gguf(folder / "tiny-BF16.gguf", FILLED, "BF16", num_draft_layers=1, **KINDS[request.param])


@pytest.mark.parametrize("recipe", RECIPES)
def test_llama_cpp_opens_our_files_and_predicts_the_same(source: Path, tmp_path: Path, recipe: str) -> None:
    path = quantize_api.quantize(source, recipe, tmp_path / "out.gguf").path
    theirs = llama_peer.logits(path, IDS)
    with loqal.load(path, context_len=512) as model:
        ours = model.logits(IDS.tolist())
    with loqal.load(source, context_len=512) as model:
        exact = model.logits(IDS.tolist())
    # Both round activations in their own way; that is far less than what the weights lost, or tiny by itself.
    apart, lost = divergence(ours, theirs), divergence(exact, ours)
    print(f"{recipe}: {apart:.6f} apart, {lost:.6f} lost")
    assert apart < max(0.003, 0.3 * lost)
    # Greedy tokens agree wherever the first choice leads by more than the two differ anywhere near the top.
    top_two = np.sort(ours, axis=1)[:, -2:]
    margin, noise = top_two[:, 1] - top_two[:, 0], np.sqrt(np.mean((ours - theirs) ** 2))
    clear = margin > 8 * noise
    assert clear.mean() > 0.3
    np.testing.assert_array_equal(ours.argmax(axis=1)[clear], theirs.argmax(axis=1)[clear])


@pytest.mark.parametrize("recipe", BOTH)
def test_no_tensor_loses_more_than_with_llama_cpps_quantizer(source: Path, tmp_path: Path, recipe: str) -> None:
    ours = quantize_api.quantize(source, recipe, tmp_path / "ours.gguf").path
    theirs = llama_peer.quantize(source, tmp_path / "theirs.gguf", recipe)
    compared = 0
    with open_checkpoint(source) as exact, open_checkpoint(ours) as a, open_checkpoint(theirs) as b:
        for name in a.tensors:
            if a.tensors.format(name) != b.tensors.format(name) or formats.FORMATS[a.tensors.format(name)].is_float:
                continue
            values = [formats.decode(t.format, t.data, t.shape) for t in (c.tensors[name] for c in (exact, a, b))]
            runs = values[0].reshape(-1, 32)
            weights = np.sqrt((runs**2).mean(axis=1, keepdims=True)) + np.abs(runs)
            losses = [float((weights * (v.reshape(-1, 32) - runs) ** 2).sum()) for v in values[1:]]
            assert losses[0] <= losses[1] * 1.0001, name
            compared += 1
    assert compared > 0


@pytest.mark.parametrize("recipe", BOTH)
def test_no_tensor_loses_more_with_the_same_importance(source: Path, tmp_path: Path, recipe: str) -> None:
    """Whole files, from one importance file. The loss is weighted as it says inputs matter."""
    matrix = quantize_api.measure_importance(source, TEXT, tmp_path / "imatrix.gguf")
    means = importance.read(matrix)
    ours = quantize_api.quantize(source, recipe, tmp_path / "ours.gguf", imatrix=matrix).path
    theirs = llama_peer.quantize(source, tmp_path / "theirs.gguf", recipe, means)
    names = {}
    worst, compared, unlike = 0.0, 0, 0
    with open_checkpoint(source) as exact, open_checkpoint(ours) as a, open_checkpoint(theirs) as b:
        names = {entry.name: entry.gguf for entry in entries(exact.config)}
        for name in a.tensors:
            if names[name] not in means or formats.FORMATS[a.tensors.format(name)].is_float:
                continue
            if a.tensors.format(name) != b.tensors.format(name):
                unlike += 1
                continue
            values = [formats.decode(t.format, t.data, t.shape) for t in (c.tensors[name] for c in (exact, a, b))]
            matrices = zip(*(v.reshape(len(means[names[name]]), -1, v.shape[-1]) for v in values), strict=True)
            lost = [
                (loss(x, y, weights).weighted, loss(x, z, weights).weighted)
                for (x, y, z), weights in zip(matrices, means[names[name]], strict=True)
            ]
            mine, other = (float(np.sqrt(np.mean(np.square(column)))) for column in zip(*lost, strict=True))
            worst = max(worst, mine / other)
            assert mine <= other * 1.0001, (name, mine, other)
            compared += 1
    print(f"{recipe}: {compared} tensors of one format, {unlike} of others, at most {worst:.4f} of their error")
    assert compared > 0


def test_importance_files_are_read_by_llama_cpps_quantizer(source: Path, tmp_path: Path) -> None:
    """Their own tool is not in the library; what is compared is the layout its reader asks for."""
    path = quantize_api.measure_importance(source, TEXT, tmp_path / "imatrix.gguf")
    gguf = pytest.importorskip("gguf")
    reader = gguf.GGUFReader(path)
    assert reader.fields["general.type"].contents() == "imatrix"
    names = {tensor.name for tensor in reader.tensors}
    for name, means in importance.read(path).items():
        assert {f"{name}.in_sum2", f"{name}.counts"} <= names
        sums = next(tensor for tensor in reader.tensors if tensor.name == f"{name}.in_sum2")
        assert list(sums.shape) == [means.shape[1], means.shape[0]]


@pytest.mark.parametrize("name", Encoder(threads=1).formats)
def test_every_encoder_loses_no_more_than_ggmls_with_and_without_importance(name: str) -> None:
    shape, rng = (64, 2048), np.random.default_rng(0)
    kinds = {
        "normal": rng.standard_normal(shape) * 0.02,
        "heavy": rng.standard_t(4, shape) * 0.02,
        "outliers": rng.standard_normal(shape) * 0.02 * np.exp(rng.normal(0, 0.7, (1, shape[1]))),
    }
    importance_of = np.exp(rng.normal(0, 1.2, shape[1])).astype(np.float32)
    for kind, made in kinds.items():
        values = made.astype(np.float32)
        for weights in (None, importance_of):
            lost = Encoder(threads=1).encode(name, "F32", values.reshape(-1).view(np.uint8), shape, weights)[1]
            theirs = formats.decode(name, llama_peer.quantize_values(name, values, weights), shape)
            other = loss(values, theirs, weights)
            print(f"{name} {kind} {weights is not None}: {lost.weighted / other.weighted:.4f}")
            assert lost.weighted <= other.weighted * 1.0001
