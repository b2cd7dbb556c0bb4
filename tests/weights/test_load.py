"""The same model in both formats is the same model, in every layout published files have."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np
import pytest
import safetensors.numpy

from loqal.formats import decode, encode
from loqal.model.config import ModelConfig, RopeConfig, YarnConfig
from loqal.model.tensor_names import entries
from loqal.testing.checkpoints import (
    from_hf,
    random_tensors,
    tiny_config,
    to_gguf,
    to_hf,
    write_gguf,
    write_safetensors,
)
from loqal.weights import gguf_writer, safetensors_writer
from loqal.weights.config_gguf import write_config, write_vision
from loqal.weights.load import Checkpoint, open_checkpoint
from loqal.weights.source import OutTensor

Kind = Literal["dense", "moe"]
KINDS: list[Kind] = ["dense", "moe"]


def values(checkpoint: Checkpoint, name: str) -> np.ndarray:
    tensor = checkpoint.tensors[name]
    assert not tensor.data.flags.writeable
    assert tensor.format == checkpoint.tensors.format(name)
    assert tensor.data.size == checkpoint.tensors.size_bytes(name)
    return decode(tensor.format, tensor.data, tensor.shape)


def assert_holds(
    checkpoint: Checkpoint, tensors: dict[str, np.ndarray], exact: Callable[[str], bool] | None = None
) -> None:
    assert set(checkpoint.tensors) == set(tensors)
    for name, wanted in tensors.items():
        if exact is None or exact(name):
            np.testing.assert_array_equal(values(checkpoint, name), wanted, name)
        else:
            np.testing.assert_allclose(values(checkpoint, name), wanted, rtol=1e-3, atol=1e-4, err_msg=name)


def text_only(name: str) -> bool:
    return not name.startswith("vision.")


def full(kind: Kind, **overrides: Any) -> ModelConfig:
    return tiny_config(kind, vision=True, num_draft_layers=1, **overrides)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_files", [1, 3])
def test_safetensors_round_trip(tmp_path: Path, kind: Kind, num_files: int) -> None:
    config = full(kind)
    tensors = random_tensors(config, 1)
    with_checkpoint = open_checkpoint(write_safetensors(tmp_path / "tiny", config, tensors, num_files=num_files))
    assert with_checkpoint.config == config
    assert (with_checkpoint.name, with_checkpoint.format) == ("tiny", "safetensors")
    assert len(with_checkpoint.files) == num_files
    assert not with_checkpoint.ignored and not with_checkpoint.notes
    assert_holds(with_checkpoint, tensors)


@pytest.mark.parametrize("kind", KINDS)
def test_gguf_round_trip(tmp_path: Path, kind: Kind) -> None:
    config = full(kind)
    tensors = random_tensors(config, 1)
    path = write_gguf(tmp_path / "tiny.gguf", config, tensors, mmproj=tmp_path / "mmproj-tiny.gguf")
    for checkpoint in (open_checkpoint(path, mmproj=tmp_path / "mmproj-tiny.gguf"), open_checkpoint(tmp_path)):
        assert checkpoint.config == config
        assert checkpoint.name == "tiny"
        assert [file.name for file in checkpoint.files] == ["tiny.gguf", "mmproj-tiny.gguf"]
        assert_holds(checkpoint, tensors, exact=text_only)
        checkpoint.close()


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
def test_every_uniform_dtype(tmp_path: Path, dtype: Literal["BF16", "F16", "F32"]) -> None:
    config = full("moe")
    tensors = random_tensors(config, 2)
    checkpoint = open_checkpoint(write_safetensors(tmp_path, config, tensors, dtype))
    assert_holds(checkpoint, tensors, exact=lambda name: dtype != "F16")
    assert checkpoint.tensors["layers.0.delta.qkv"].format == dtype


def test_small_tensors_are_f32_and_matrices_keep_their_type(tmp_path: Path) -> None:
    config = full("moe")
    checkpoint = open_checkpoint(write_safetensors(tmp_path, config, random_tensors(config, 2)))
    formats = {entry.name: (checkpoint.tensors.format(entry.name), entry.f32) for entry in entries(config)}
    assert all(found == ("F32" if f32 else "BF16") for found, f32 in formats.values())
    assert formats["layers.0.delta.conv"][0] == formats["layers.0.experts.router"][0] == "F32"
    assert checkpoint.weight_bytes == sum(tensor.data.size for tensor in checkpoint.tensors.values())


def test_grouped_value_heads_become_tiled(tmp_path: Path) -> None:
    """Value head 1 of safetensors belongs to key head 0; in our order it comes behind one head of each key head."""
    config = tiny_config(num_key_heads=2, num_value_heads=4)
    tensors = random_tensors(config, 3)
    state = to_hf(config, tensors)
    prefix = "model.language_model.layers.0.linear_attn."
    d = config.value_dim
    z, ours = state[prefix + "in_proj_z.weight"], tensors["layers.0.delta.z"]
    for theirs_at, ours_at in ((0, 0), (1, 2), (2, 1), (3, 3)):
        np.testing.assert_array_equal(z[theirs_at * d : (theirs_at + 1) * d], ours[ours_at * d : (ours_at + 1) * d])
    out, ours = state[prefix + "out_proj.weight"], tensors["layers.0.delta.out"]
    np.testing.assert_array_equal(out[:, d : 2 * d], ours[:, 2 * d : 3 * d])
    qkv, ours = state[prefix + "in_proj_qkv.weight"], tensors["layers.0.delta.qkv"]
    start = 2 * config.num_key_heads * config.key_dim
    np.testing.assert_array_equal(qkv[:start], ours[:start])
    np.testing.assert_array_equal(qkv[start + d : start + 2 * d], ours[start + 2 * d : start + 3 * d])
    np.testing.assert_allclose(-np.exp(state[prefix + "A_log"][1]), tensors["layers.0.delta.a"][2], rtol=1e-6)
    np.testing.assert_array_equal(state[prefix + "conv1d.weight"].shape, (config.conv_channels, 1, 4))
    np.testing.assert_array_equal(state["model.language_model.norm.weight"] + 1, tensors["output_norm"])


@pytest.mark.parametrize("kind", KINDS)
def test_state_dict_round_trip(kind: Kind) -> None:
    config = full(kind)
    tensors = random_tensors(config, 4)
    back = from_hf(config, to_hf(config, tensors))
    for name, wanted in tensors.items():
        np.testing.assert_array_equal(back[name], wanted, name)


def test_experts_stored_one_by_one(tmp_path: Path) -> None:
    config = full("moe")
    tensors = random_tensors(config, 5)
    assert config.experts is not None
    width = config.experts.expert_width
    state = {}
    for name, array in to_hf(config, tensors).items():
        stem, _, leaf = name.rpartition(".")
        if leaf == "gate_up_proj":
            for e, both in enumerate(array):
                state[f"{stem}.{e}.gate_proj.weight"] = both[:width]
                state[f"{stem}.{e}.up_proj.weight"] = both[width:]
        elif leaf == "down_proj" and stem.endswith("experts"):
            state |= {f"{stem}.{e}.down_proj.weight": one for e, one in enumerate(array)}
        else:
            state[name] = array
    write_safetensors(tmp_path, config, tensors)
    out = [OutTensor(name, "BF16", array.shape, encode("BF16", array)) for name, array in state.items()]
    safetensors_writer.write_file(tmp_path / "model.safetensors", out)
    checkpoint = open_checkpoint(tmp_path)
    assert_holds(checkpoint, tensors, exact=lambda name: not name.endswith("delta.a"))
    assert checkpoint.tensors.format("layers.0.experts.gate") == "BF16"


@pytest.mark.parametrize("kind", KINDS)
def test_split_gguf_opens_from_any_part(tmp_path: Path, kind: Kind) -> None:
    config = tiny_config(kind)
    tensors = random_tensors(config, 6)
    out = [OutTensor(n, "F32", a.shape, a.tobytes()) for n, (_, a) in to_gguf(config, tensors).items()]
    for i in range(3):
        keys = {"split.no": np.uint16(i), "split.count": np.uint16(3), "split.tensors.count": np.int32(len(out))}
        metadata = {**write_config(config), **keys} if i == 0 else keys
        gguf_writer.write_file(tmp_path / f"tiny-{i + 1:05d}-of-00003.gguf", metadata, out[i::3])
    for path in (tmp_path, tmp_path / "tiny-00001-of-00003.gguf", tmp_path / "tiny-00003-of-00003.gguf"):
        checkpoint = open_checkpoint(path)
        assert len(checkpoint.files) == 3
        assert_holds(checkpoint, tensors)


def test_quantized_matrices_are_views_of_the_file(tmp_path: Path) -> None:
    config = tiny_config("dense", width=256, ffn_width=512)
    formats = {"*": "Q4_K", "embed": "Q6_K", "mlp.down": "IQ4_XS", "layers.1.mlp.up": "Q8_0"}
    checkpoint = open_checkpoint(write_gguf(tmp_path / "q.gguf", config, random_tensors(config, 7), formats))
    stored = {name: checkpoint.tensors.format(name) for name in checkpoint.tensors}
    assert stored["layers.0.delta.qkv"] == "Q4_K"
    assert stored["embed"] == "Q6_K"
    assert stored["layers.2.mlp.down"] == "IQ4_XS"
    assert stored["layers.1.mlp.up"] == "Q8_0"
    assert stored["layers.0.input_norm"] == stored["layers.0.delta.conv"] == "F32"
    tensor = checkpoint.tensors["layers.0.delta.qkv"]
    assert not tensor.data.flags.owndata and not tensor.data.flags.writeable
    checkpoint.close()
    assert tensor.data[:4].tolist() is not None  # a view outlives the checkpoint


def monolith(path: Path, config: ModelConfig, tensors: dict[str, np.ndarray]) -> None:
    """Write the layout of Ollama's older files: one file, vision in the safetensors spelling, a raw draft head."""
    assert config.vision is not None
    architecture = "qwen35" if config.experts is None else "qwen35moe"
    keys: dict[str, Any] = write_config(dataclasses.replace(config, num_draft_layers=0))
    for key in ("attention.recurrent_layers", "full_attention_interval", "vocab_size"):
        del keys[f"{architecture}.{key}"]
    heads = [config.num_kv_heads if mixer == "attention" else 0 for mixer in config.layers]
    vision = config.vision
    extra = {
        "attention.head_count_kv": np.array(heads, np.uint32),
        "rope.dimension_sections": np.array(config.rope.sections, np.int32),
        "rope.mrope_interleaved": True,
        "ssm.v_head_reordered": True,
        "vision.block_count": vision.depth,
        "vision.embedding_length": vision.width,
        "vision.attention.head_count": vision.num_heads,
        "vision.num_channels": 3,
        "vision.patch_size": vision.patch_size,
        "vision.spatial_merge_size": vision.merge_size,
        "image_token_id": 248056,
    }
    keys |= {f"{architecture}.{key}": value for key, value in extra.items()}
    state = to_hf(config, tensors)
    out = []

    def add(name: str, array: np.ndarray) -> None:
        kind = "F32" if array.ndim == 1 or "ssm_conv1d" in name else "F16"
        out.append(OutTensor(name, kind, array.shape, encode(kind, array)))

    for entry in entries(config):
        array = tensors[entry.name]
        if entry.part == "vision":
            name = "v." + entry.hf.removeprefix("model.visual.").replace("blocks.", "blk.").replace("attn.", "attn_")
            name = name.replace("attn_proj", "attn_out").replace("patch_embed.proj", "patch_embed")
            if "attn_qkv" in name:
                for part, rows in zip("qkv", np.split(array, 3), strict=True):
                    add(name.replace("attn_qkv", f"attn_{part}"), rows)
            elif entry.name == "vision.patch_embed.weight":
                add(name, array.reshape(-1, vision.temporal_patch_size, vision.patch_size, vision.patch_size))
            else:
                add(name, array)
        elif entry.part == "draft":
            raw = array - 1 if entry.conversion == "plus_one" else array
            if not entry.name.startswith("draft.layer."):
                add(entry.hf, state[entry.hf])
            elif array.ndim == 3:
                leaf = {"experts.gate": "gate", "experts.up": "up", "experts.down": "down"}[entry.suffix]
                for e, expert in enumerate(array):
                    add(f"mtp.layers.0.mlp.experts.{e}.{leaf}_proj.weight", expert)
            else:
                add(f"mtp.layers.0.{entry.gguf.split('.', 2)[2]}", raw)
        else:
            add(entry.gguf.replace("ssm_dt.bias", "ssm_dt"), array)
    gguf_writer.write_file(path, keys, out)


@pytest.mark.parametrize("kind", KINDS)
def test_monolithic_ollama_file(tmp_path: Path, kind: Kind) -> None:
    config = full(kind)
    tensors = random_tensors(config, 8)
    monolith(tmp_path / "sha256-0123", config, tensors)
    checkpoint = open_checkpoint(tmp_path / "sha256-0123")
    assert checkpoint.config == config
    assert not checkpoint.ignored
    assert_holds(checkpoint, tensors, exact=lambda name: False)
    assert all("norm" not in name or values(checkpoint, name).mean() > 0.8 for name in tensors if name[-4:] != "bias")


@pytest.mark.parametrize("kind", KINDS)
def test_fused_weights_of_gguf_are_taken_apart(tmp_path: Path, kind: Kind) -> None:
    config = tiny_config(kind, num_draft_layers=1)
    tensors = random_tensors(config, 9)
    arrays = {name: array for name, (_, array) in to_gguf(config, tensors).items()}
    for block in ("blk.3.", "blk.4."):
        parts = [arrays.pop(f"{block}attn_{part}.weight") for part in "qkv"]
        arrays[f"{block}attn_qkv.weight"] = np.concatenate(parts)
        if kind == "moe":
            halves = [arrays.pop(f"{block}ffn_{half}_exps.weight") for half in ("gate", "up")]
            arrays[f"{block}ffn_gate_up_exps.weight"] = np.concatenate(halves, axis=1)
    out = [OutTensor(name, "F32", array.shape, array.tobytes()) for name, array in arrays.items()]
    gguf_writer.write_file(tmp_path / "m.gguf", write_config(config), out)
    assert_holds(open_checkpoint(tmp_path / "m.gguf"), tensors)


def test_quantized_fused_weights_keep_their_blocks(tmp_path: Path) -> None:
    config = tiny_config(width=256)
    tensors = random_tensors(config, 9)
    out = []
    for name, (entry, array) in to_gguf(config, tensors).items():
        if not name.startswith(("blk.3.attn_q.", "blk.3.attn_k.", "blk.3.attn_v.")):
            kind = "F32" if entry.f32 else "F16"
            out.append(OutTensor(name, kind, array.shape, encode(kind, array)))
    parts = [tensors[f"layers.3.attention.{part}"] for part in ("query", "key", "value")]
    fused = np.concatenate(parts)
    out.append(OutTensor("blk.3.attn_qkv.weight", "Q4_K", fused.shape, encode("Q4_K", fused)))
    gguf_writer.write_file(tmp_path / "m.gguf", write_config(config), out)
    tensor = open_checkpoint(tmp_path / "m.gguf").tensors["layers.3.attention.key"]
    assert tensor.format == "Q4_K"
    np.testing.assert_array_equal(tensor.data, encode("Q4_K", parts[1]))


def test_checkpoints_without_their_draft_head_or_vision(tmp_path: Path) -> None:
    config = full("dense")
    bare = dataclasses.replace(config, vision=None, num_draft_layers=0)
    tensors = random_tensors(config, 10)
    write_safetensors(tmp_path, config, tensors)
    state = {n: a for n, a in to_hf(config, tensors).items() if not n.startswith(("mtp.", "model.visual."))}
    out = [OutTensor(name, "BF16", array.shape, encode("BF16", array)) for name, array in state.items()]
    safetensors_writer.write_file(tmp_path / "model.safetensors", out)
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.config == bare
    assert len(checkpoint.notes) == 2
    assert set(checkpoint.tensors) == {entry.name for entry in entries(bare)}


def test_a_draft_head_in_its_own_file(tmp_path: Path) -> None:
    config = tiny_config(num_draft_layers=1)
    tensors = random_tensors(config, 11)
    bare = dataclasses.replace(config, num_draft_layers=0)
    write_gguf(tmp_path / "tiny.gguf", bare, tensors)
    arrays = {n: a for n, (_, a) in to_gguf(config, tensors).items() if n.startswith("blk.4.") or "blk." not in n}
    out = [OutTensor(name, "F32", array.shape, array.tobytes()) for name, array in arrays.items()]
    gguf_writer.write_file(tmp_path / "mtp-tiny.gguf", write_config(config), out)
    assert open_checkpoint(tmp_path / "tiny.gguf").config == bare
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.config == config
    assert_holds(checkpoint, tensors)
    assert [ignored.name for ignored in checkpoint.ignored] == [
        "mtp-tiny.gguf: token_embd.weight",
        "mtp-tiny.gguf: output_norm.weight",
    ]


def test_metadata_of_gguf(tmp_path: Path) -> None:
    config = tiny_config(rope=RopeConfig(yarn=YarnConfig(4.0, 1024)), context_len=4096)
    vocabulary = ["a", "<|endoftext|>", "b", "<|im_end|>", "Größe"]
    extra = {
        "general.name": "Tiny",
        "general.size_label": "1M",
        "tokenizer.ggml.tokens": vocabulary,
        "tokenizer.ggml.eos_token_id": 3,
        "tokenizer.chat_template": "{{ messages }}",
    }
    checkpoint = open_checkpoint(write_gguf(tmp_path / "x.gguf", config, random_tensors(config), metadata=extra))
    assert checkpoint.config == config
    assert (checkpoint.name, checkpoint.size_label) == ("Tiny", "1M")
    assert checkpoint.eos_token_ids == (3, 1)
    assert checkpoint.chat_template == "{{ messages }}"
    assert list(checkpoint.metadata["tokenizer.ggml.tokens"]) == vocabulary
    assert checkpoint.tokenizer_json is None


def test_files_beside_safetensors(tmp_path: Path) -> None:
    config = tiny_config()
    write_safetensors(tmp_path, config, random_tensors(config))
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [248046, 248044], "top_k": 20}')
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "tokenizer_config.json").write_text(
        '{"eos_token": "<|im_end|>", "added_tokens_decoder": {"7": {"content": "<|im_end|>"}}, "chat_template": "old"}'
    )
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.eos_token_ids == (7, 248046, 248044)
    assert checkpoint.metadata["generation_config.json"]["top_k"] == 20
    assert checkpoint.tokenizer_json == b"{}"
    assert checkpoint.chat_template == "old"
    (tmp_path / "chat_template.jinja").write_text("new")
    assert open_checkpoint(tmp_path).chat_template == "new"


def test_a_tied_output_matrix_in_the_file_is_ignored_with_a_reason(tmp_path: Path) -> None:
    config = tiny_config(tied_head=True)
    tensors = random_tensors(config)
    write_safetensors(tmp_path, config, tensors)
    state = {n.replace("model.language_model.", "model."): a for n, a in to_hf(config, tensors).items()}
    state["lm_head.weight"] = tensors["embed"]
    out = [OutTensor(name, "F32", array.shape, array.tobytes()) for name, array in state.items()]
    safetensors_writer.write_file(tmp_path / "model.safetensors", out)
    (ignored,) = open_checkpoint(tmp_path).ignored
    assert ignored.name == "lm_head.weight" and "embedding" in ignored.reason


def test_safetensors_are_read_and_written_as_the_official_library_does(tmp_path: Path) -> None:
    config = full("dense")
    tensors = random_tensors(config, 12)
    write_safetensors(tmp_path, config, tensors, "F32")
    state = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    wanted = to_hf(config, tensors)
    assert state.keys() == wanted.keys()
    assert all(np.array_equal(state[name], wanted[name]) for name in wanted)
    safetensors.numpy.save_file(state, tmp_path / "model.safetensors", {"format": "np"})
    assert_holds(open_checkpoint(tmp_path), tensors)


def test_gguf_is_read_as_the_official_library_does(tmp_path: Path) -> None:
    config = full("moe", tied_head=False)
    tensors = random_tensors(config, 13)
    path = write_gguf(tmp_path / "m.gguf", config, tensors, "Q8_0", mmproj=tmp_path / "v.gguf")
    reader = gguf.GGUFReader(path)
    names = {tensor.name: tensor for tensor in reader.tensors}
    assert names["blk.3.attn_q.weight"].tensor_type.name == "Q8_0"
    assert names["blk.0.ssm_conv1d.weight"].shape.tolist() == [4, config.conv_channels]
    assert names["blk.0.ffn_gate_inp_shexp.weight"].shape.tolist() == [config.width]
    wanted = decode(
        "Q8_0", encode("Q8_0", tensors["layers.3.attention.query"]), tensors["layers.3.attention.query"].shape
    )
    found = gguf.dequantize(names["blk.3.attn_q.weight"].data, gguf.GGMLQuantizationType.Q8_0)
    np.testing.assert_array_equal(found, wanted)
    vision = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "v.gguf").tensors}
    assert vision["v.patch_embd.weight.1"].shape.tolist() == [16, 16, 3, 64]


def test_gguf_is_written_as_the_official_library_does(tmp_path: Path) -> None:
    config = full("dense")
    tensors = random_tensors(config, 14)
    for path, keys, vision in (("m.gguf", write_config(config), False), ("v.gguf", write_vision_of(config), True)):
        writer = gguf.GGUFWriter(tmp_path / path, keys.pop("general.architecture"))
        for key, value in keys.items():
            if isinstance(value, np.ndarray):
                writer.add_array(key, value.tolist())
            else:
                {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}[
                    type(value)
                ](key, value)
        for name, (entry, array) in to_gguf(config, tensors).items():
            if (entry.part == "vision") == vision:
                writer.add_tensor(name, array)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    checkpoint = open_checkpoint(tmp_path / "m.gguf", mmproj=tmp_path / "v.gguf")
    assert checkpoint.config == config
    assert_holds(checkpoint, tensors)


def write_vision_of(config: ModelConfig) -> dict[str, Any]:
    assert config.vision is not None
    return write_vision(config.vision)
