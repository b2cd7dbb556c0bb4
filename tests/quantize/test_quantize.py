"""Smaller files: what they hold, that interrupting them costs nothing, that importance helps, that damage is found."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import loqal
import tiny_checkpoint
from loqal import formats
from loqal.cli.main import main
from loqal.errors import FormatError, RequestError
from loqal.hub import provenance
from loqal.model.config import ExpertsConfig
from loqal.model.sizes import SIZES
from loqal.model.tensor_names import entries
from loqal.ops.choose import choose_ops
from loqal.quantize import activation_recorder, importance
from loqal.quantize import api as quantize_api
from loqal.quantize.recipes import FILE_TYPES, RECIPES, find_recipe, format_of
from loqal.testing.checkpoints import random_tensors, tiny_config, write_gguf
from loqal.weights.load import open_checkpoint
from media_files import encoded, picture

TEXT = "The quick brown fox jumps over the lazy dog; 12 times, 345 times. " * 20
KINDS = {
    "dense": {"width": 256, "ffn_width": 512, "tied_head": False},
    "moe": {"kind": "moe", "width": 256, "experts": ExpertsConfig(4, 2, 256, 256)},
}


@pytest.fixture(scope="module", params=KINDS)
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    return tiny_checkpoint.gguf(folder / "tiny-BF16.gguf", None, "BF16", num_draft_layers=1, **KINDS[request.param])


@pytest.fixture(scope="module")
def matrix(source: Path) -> Path:
    return quantize_api.measure_importance(source, TEXT, source.with_name("imatrix.gguf"))


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_gives_a_file_that_holds_every_tensor_and_runs(source: Path, tmp_path: Path, recipe: str) -> None:
    result = quantize_api.quantize(source, recipe.lower(), tmp_path / "out.gguf")
    with open_checkpoint(source) as before, open_checkpoint(result.path) as after:
        assert after.config == before.config and not after.ignored
        assert set(after.tensors) == set(before.tensors)
        by_name = {entry.gguf: entry for entry in entries(before.config)}
        for tensor in result.tensors:
            name = by_name[tensor.name].name
            assert after.tensors.format(name) == tensor.format
            a, b = before.tensors[name], after.tensors[name]
            lost = formats.decode(a.format, a.data, a.shape) - formats.decode(b.format, b.data, b.shape)
            assert np.square(lost.astype(np.float64)).sum() == pytest.approx(tensor.loss.squared, rel=1e-3, abs=1e-9)
        for key in ("tokenizer.ggml.tokens", "tokenizer.ggml.merges"):
            assert list(after.metadata[key]) == list(before.metadata[key])
        assert after.metadata["general.file_type"] == FILE_TYPES[recipe]
    with loqal.load(result.path, context_len=256) as model:
        assert (
            model.generate([1, 2, 3], loqal.SamplingParams(max_tokens=4, ignore_eos=True)).usage.completion_tokens == 4
        )
    kept = provenance.read_json(provenance.beside(result.path))
    assert kept is not None and recipe in kept["made_from"] and kept["origin"] == source.name


def test_safetensors_and_gguf_give_one_file(tmp_path: Path) -> None:
    shape = {"width": 256, "ffn_width": 512, "tied_head": False, "num_draft_layers": 1, "vision": True}
    folder = tiny_checkpoint.safetensors(tmp_path / "tiny", **shape)
    source = tiny_checkpoint.gguf(tmp_path / "tiny.gguf", None, "BF16", **(shape | {"vision": None}))
    first = quantize_api.quantize(folder, "Q4_K_M", tmp_path / "first.gguf")
    second = quantize_api.quantize(source, "Q4_K_M", tmp_path / "second.gguf")
    assert first.mmproj is not None and second.mmproj is None
    with open_checkpoint(first.path, mmproj=first.mmproj) as a, open_checkpoint(second.path) as b:
        assert a.config.vision is not None and a.config.num_draft_layers == 1
        assert all(np.array_equal(a.tensors[name].data, b.tensors[name].data) for name in b.tensors)
        original = open_checkpoint(folder)
        for name in original.tensors:
            if name.startswith("vision."):
                one, other = original.tensors[name], a.tensors[name]
                values = formats.decode(one.format, one.data, one.shape)
                np.testing.assert_allclose(values, formats.decode(other.format, other.data, other.shape), atol=1e-3)
    with loqal.load(first.path, context_len=256) as one, loqal.load(folder, context_len=256) as other:
        assert one.tokenize(TEXT) == other.tokenize(TEXT)
        assert one.info.tokenizer == other.info.tokenizer


def test_an_interrupted_file_is_continued_and_comes_out_the_same(source: Path, tmp_path: Path) -> None:
    expected = quantize_api.quantize(source, "Q4_K_M", tmp_path / "whole.gguf").path.read_bytes()
    target = tmp_path / "cut.gguf"
    rng = np.random.default_rng(0)
    starts: list[int] = []

    class CutError(Exception):
        pass

    for attempt in range(6):
        calls: list[int] = []

        def stop(done: int, total: int, calls: list[int] = calls, attempt: int = attempt) -> None:
            calls.append(done)
            if len(calls) > int(rng.integers(1, 12)) and attempt < 5:
                raise CutError

        try:
            quantize_api.quantize(source, "Q4_K_M", target, progress=stop)
        except CutError:
            assert not target.exists()
            partial = target.with_name("cut.gguf.partial")
            if attempt == 2:  # a kill in the middle of a tensor
                with partial.open("ab") as file:
                    file.write(b"half a tensor")
        starts.append(calls[0])
    assert target.read_bytes() == expected and starts[-1] > 0 and starts == sorted(starts)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "cut.gguf",
        "cut.gguf.loqal.json",
        "whole.gguf",
        "whole.gguf.loqal.json",
    ]
    with pytest.raises(CutError):
        quantize_api.quantize(source, "Q4_K_M", target, progress=stop_at_once(CutError))
    # A begun file of another order is not continued.
    other = quantize_api.quantize(source, "Q4_K_S", target).path.read_bytes()
    assert other == quantize_api.quantize(source, "Q4_K_S", tmp_path / "again.gguf").path.read_bytes()


def stop_at_once(kind: type[Exception]) -> quantize_api.Progress:
    def stop(done: int, total: int) -> None:
        raise kind

    return stop


def test_importance_is_the_mean_square_of_what_passes(source: Path, matrix: Path) -> None:
    means = importance.read(matrix)
    with open_checkpoint(source) as checkpoint:
        config = checkpoint.config
        matrices = [
            entry
            for entry in entries(config)
            if entry.part != "vision" and len(entry.shape) > 1 and entry.suffix not in ("delta.conv",)
        ]
        wanted = {entry.gguf for entry in matrices if entry.name != "embed" or config.tied_head}
        assert set(means) == wanted
        for entry in matrices:
            if entry.gguf in means:
                assert means[entry.gguf].shape == (entry.shape[0] if len(entry.shape) == 3 else 1, entry.shape[-1])
    # The head's inputs are the hidden rows, whose norm's weights are near 1: their squares are about 1.
    head = means["token_embd.weight" if config.tied_head else "output.weight"]
    assert 0.5 < head.mean() < 2
    # All projections of one input see the same.
    np.testing.assert_array_equal(means["blk.0.attn_qkv.weight"], means["blk.0.attn_gate.weight"])
    np.testing.assert_array_equal(means["blk.3.attn_q.weight"], means["blk.3.attn_v.weight"])


def test_recording_changes_nothing_but_rounding(source: Path) -> None:
    """The head's importance agrees with the hidden rows that explain the logits."""
    with open_checkpoint(source) as checkpoint, loqal.load(source, context_len=256) as model:
        ids = model.tokenize(TEXT)[:100]
        pieces = activation_recorder.text_pieces(ids)
        sums = activation_recorder.collect(
            checkpoint.config, checkpoint.tensors, choose_ops(), pieces, lambda done: None
        )
        name = "token_embd.weight" if checkpoint.config.tied_head else "output.weight"
        head = checkpoint.tensors["embed" if checkpoint.config.tied_head else "output"]
        matrix = formats.decode(head.format, head.data, head.shape).astype(np.float64)
        hidden = np.linalg.lstsq(matrix, model.logits(ids).astype(np.float64).T, rcond=None)[0].T
        np.testing.assert_allclose(sums.squares[name][0], (hidden**2).sum(axis=0), rtol=2e-2, atol=1e-2)
        assert sums.counts[name][0] == len(ids)
        draft = next(entry.gguf for entry in entries(checkpoint.config) if entry.name == "draft.project")
        assert sums.counts[draft][0] == len(ids) - 1
        # The second half of the projection's inputs are the trunk's rows, normed once more: of mean square 1.
        norm = checkpoint.tensors["draft.hidden_norm"]
        weight = formats.decode(norm.format, norm.data, norm.shape).astype(np.float64)
        normed = hidden[:-1] / np.sqrt((hidden[:-1] ** 2).mean(axis=1, keepdims=True)) * weight
        half = sums.squares[draft][0][len(weight) :]
        np.testing.assert_allclose(half, (normed**2).sum(axis=0), rtol=2e-2, atol=1e-2)


def test_importance_from_images(tmp_path: Path) -> None:
    """Rows of images count like tokens, and weigh the inputs differently from text."""
    shape = {"width": 256, "ffn_width": 512, "tied_head": False, "vision": True}
    source = tiny_checkpoint.gguf(tmp_path / "tiny.gguf", None, "BF16", **shape)
    mmproj = source.with_name(f"mmproj-{source.name}")
    pictures = []
    for seed, size in enumerate(((96, 64), (64, 128), (64, 64))):
        pictures.append(tmp_path / f"{seed}.png")
        pictures[-1].write_bytes(encoded(picture(*size, seed), "PNG"))
    out = tmp_path / "m.gguf"
    plain = importance.read(quantize_api.measure_importance(source, TEXT, out))
    words = ["imatrix", str(source), "--out", str(out), "--mmproj", str(mmproj)]
    assert main([*words, *(word for path in pictures for word in ("--image", str(path)))]) == 0
    seen = importance.read(out)
    assert seen.keys() == plain.keys()
    assert all(np.isfinite(means).all() and means.shape == plain[name].shape for name, means in seen.items())
    assert not np.allclose(seen["blk.0.attn_qkv.weight"], plain["blk.0.attn_qkv.weight"], rtol=0.1)
    both = quantize_api.measure_importance(source, TEXT, out, images=pictures, mmproj=mmproj)
    reader = pytest.importorskip("gguf").GGUFReader(both)
    counts = {tensor.name: tensor.data.reshape(-1) for tensor in reader.tensors}
    info = [loqal.media_info(loqal.MediaPart("image", str(path)), source, mmproj=mmproj) for path in pictures]
    with loqal.load(source, context_len=256) as model:
        expected = len(model.tokenize(TEXT)) + sum(one.num_tokens + 2 for one in info)
    assert counts["blk.0.attn_qkv.weight.counts"] == expected
    assert main(["imatrix", str(source), "--out", str(out), "--image", str(pictures[0])]) == 2


def test_importance_brings_predictions_nearer(source: Path, matrix: Path, tmp_path: Path) -> None:
    plain = quantize_api.quantize(source, "Q2_K", tmp_path / "plain.gguf")
    guided = quantize_api.quantize(source, "Q2_K", tmp_path / "guided.gguf", imatrix=matrix)
    assert any(tensor.has_importance for tensor in guided.tensors)
    found = [quantize_api.compare(source, result.path, TEXT).divergence for result in (plain, guided)]
    assert found[0] is not None and found[1] is not None
    assert found[1].mean < found[0].mean
    finer = quantize_api.quantize(source, "Q6_K", tmp_path / "fine.gguf")
    fine = quantize_api.compare(source, finer.path, TEXT).divergence
    assert fine is not None and fine.mean < found[1].mean / 10 and fine.same_top > 0.8


def test_a_damaged_tensor_is_found_and_named(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = quantize_api.quantize(source, "Q8_0", tmp_path / "out.gguf")
    assert not quantize_api.compare(source, result.path).suspicious
    assert quantize_api.compare(result.path, result.path).differences == ()
    with open_checkpoint(result.path) as checkpoint:
        name = "layers.1.delta.out"
        entry = next(entry for entry in entries(checkpoint.config) if entry.name == name)
        data = checkpoint.tensors[name].data
        at = result.path.read_bytes().index(data.tobytes())
    raw = bytearray(result.path.read_bytes())
    raw[at + 34 * 5 + 1] = 0x60  # the scale of the sixth block
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(raw)
    found = quantize_api.compare(source, broken)
    assert [difference.name for difference in found.suspicious] == [entry.gguf]
    assert quantize_api.compare(result.path, broken).differences[0].name == entry.gguf
    text = tmp_path / "text.txt"
    text.write_text(TEXT)
    assert main(["compare", str(source), str(broken), "--text", str(text), "--max-tokens", "64"]) == 3
    assert entry.gguf in capsys.readouterr().out
    assert main(["compare", str(source), str(result.path)]) == 0


def test_the_verbs(source: Path, matrix: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "text.txt"
    text.write_text(TEXT)
    out = tmp_path / "m.gguf"
    assert main(["imatrix", str(source), "--text", str(text), "--out", str(out), "--max-tokens", "600"]) == 0
    target = tmp_path / "t.gguf"
    assert main(["quantize", str(source), "q4_k_xl", str(target), "--imatrix", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["path"] == str(target) and all(tensor["error"] < 0.1 for tensor in found["tensors"])
    assert main(["quantize", str(source), "q9", str(target)]) == 2
    assert main(["quantize", str(source), "q8_0", str(source)]) == 2
    assert main(["quantize", str(source), "q8_0", str(target), "--imatrix", str(source)]) == 3
    assert main(["check", str(source), str(target), "--json"]) == 0
    with pytest.raises(FormatError, match="is not an importance file"):
        importance.read(source)
    with pytest.raises(RequestError, match="fewer than two tokens"):
        quantize_api.measure_importance(source, "", out)


def test_files_of_another_shape_are_not_compared(source: Path, tmp_path: Path) -> None:
    config = tiny_config()
    other = write_gguf(tmp_path / "other.gguf", config, random_tensors(config))
    with pytest.raises(RequestError, match="not the same model"):
        quantize_api.compare(source, other)


@pytest.mark.parametrize("size", SIZES)
def test_recipes_protect_what_is_fragile(size: str) -> None:
    config = SIZES[size]
    bits = {name: 8 * formats.FORMATS[name].block_bytes / formats.FORMATS[name].block_len for name in formats.FORMATS}
    totals = {}
    for name in RECIPES:
        recipe = find_recipe(name)
        stored = {entry.name: format_of(recipe, entry, config) for entry in entries(config) if entry.part != "vision"}
        assert all(stored[entry.name] == "F32" for entry in entries(config) if entry.name in stored and entry.f32)
        if name.endswith("_XL"):
            mlp = "experts.gate" if config.experts else "mlp.gate"
            for layer in (0, 1, 2):
                gate, out = stored[f"layers.{layer}.{mlp}"], stored[f"layers.{layer}.delta.out"]
                assert bits[out] > bits[stored[f"layers.{layer}.delta.qkv"]] - 0.1 and bits[out] > bits[gate]
            attention = stored["layers.3.attention.query"]
            assert bits[stored["layers.3.attention.value"]] >= bits[attention] > bits[stored[f"layers.3.{mlp}"]]
            head = stored["embed" if config.tied_head else "output"]
            assert bits[head] >= bits[stored[f"layers.3.{mlp}"]]
        if not formats.FORMATS[recipe.base].is_float:
            assert stored["layers.0.delta.alpha"] == "Q8_0" and stored["draft.project"] == "Q8_0"
        sizes = {entry.name: int(np.prod(entry.shape)) for entry in entries(config)}
        totals[name] = sum(bits[stored[n]] * sizes[n] for n in stored) / sum(sizes[n] for n in stored)
    order = ["Q2_K", "Q3_K_S", "Q3_K_M", "Q3_K_L", "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K", "Q8_0"]
    assert [totals[name] for name in order] == sorted(totals[name] for name in order)
    wide = ["Q2_K_XL", "Q3_K_XL", "Q4_K_XL", "Q5_K_XL", "Q6_K_XL"]
    assert [totals[name] for name in wide] == sorted(totals[name] for name in wide)
    assert set(FILE_TYPES) == set(RECIPES)
