"""Hostile headers: whatever the bytes are, a file is read or refused with our error, quickly and without allocating.

More than 20,000 mutations with fixed seeds. Mutations keep most of a sound file, so that they reach deep.
"""

from __future__ import annotations

import json
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loqal.errors import CheckpointError
from loqal.formats.gguf_header import StringArray
from loqal.testing.checkpoints import random_tensors, tiny_config, write_gguf, write_safetensors
from loqal.weights import config_gguf, config_json, gguf, gguf_writer, safetensors, safetensors_writer
from loqal.weights.load import open_checkpoint
from loqal.weights.source import OutTensor

Parse = Callable[[bytes], Any]
INTERESTING = (0, 1, 2, 7, 31, 127, 128, 255, 256, 65535, 1 << 31, (1 << 32) - 1, 1 << 62, (1 << 63) - 1, (1 << 64) - 1)


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """One to three random injuries: bytes, numbers, cuts, repetitions, insertions."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(0, max(len(out), 1)))
        match int(rng.integers(0, 7)):
            case 0:
                out[at : at + 1] = bytes([int(rng.integers(0, 256))])
            case 1:
                out[at : at + 1] = bytes([out[at] ^ 1 << int(rng.integers(0, 8))]) if out else b""
            case 2:
                out[at : at + 8] = struct.pack("<Q", INTERESTING[int(rng.integers(0, len(INTERESTING)))])
            case 3:
                out[at : at + 4] = struct.pack("<I", INTERESTING[int(rng.integers(0, 12))])
            case 4:
                del out[at:]
            case 5:
                end = at + int(rng.integers(1, 64))
                out[at:at] = out[at:end]
            case 6:
                del out[at : at + int(rng.integers(1, 16))]
    return bytes(out)


def mutate_json(text: str, rng: np.random.Generator) -> str:
    """Replace, drop or repeat a piece of JSON so that it often stays JSON."""
    pieces = [
        "null",
        "-1",
        "0",
        "1e400",
        "[]",
        "{}",
        '""',
        "true",
        "99999999999999999999",
        '"F64"',
        "[1,[2]]",
        "NaN",
        "}",
    ]
    out = text
    for _ in range(int(rng.integers(1, 4))):
        marks = [i for i, letter in enumerate(out) if letter in ":,[{"]
        at = marks[int(rng.integers(0, len(marks)))] + 1 if marks else 0
        end = at
        while end < len(out) and out[end] not in ",]}":
            end += 1
        out = out[:at] + pieces[int(rng.integers(0, len(pieces)))] + out[end:]
    return out


def survives(parse: Parse, data: bytes) -> bool:
    """Whether the file is accepted. Any error but ours fails the test."""
    try:
        parse(data)
    except CheckpointError as error:
        assert error.what and error.why and error.fix
        return False
    return True


def sound_gguf(tmp_path: Path) -> bytes:
    metadata = config_gguf.write_config(tiny_config("moe")) | {
        "general.alignment": 32,
        "tokenizer.ggml.tokens": ["a", "ß", "", "longer"],
        "numbers": np.arange(5, dtype=np.float64),
        "flags": np.array([True, False]),
    }
    tensors = [
        OutTensor("blk.0.a", "F32", (3, 5), bytes(60)),
        OutTensor("blk.0.b", "Q8_0", (2, 64), bytes(136)),
        OutTensor("blk.0.c", "Q4_K", (256,), bytes(144)),
    ]
    gguf_writer.write_file(tmp_path / "m.gguf", metadata, tensors)
    return (tmp_path / "m.gguf").read_bytes()


def sound_safetensors(tmp_path: Path) -> bytes:
    tensors = [OutTensor("a", "F32", (3, 5), bytes(60)), OutTensor("b", "BF16", (8,), bytes(16))]
    safetensors_writer.write_file(tmp_path / "m.safetensors", tensors, {"format": "pt"})
    return (tmp_path / "m.safetensors").read_bytes()


def read_all_of_gguf(data: bytes) -> None:
    header = gguf.read_header(data, "m.gguf")
    for tensor in header.tensors:
        assert 0 <= tensor.offset <= tensor.offset + tensor.size_bytes <= len(data)
    for value in header.metadata.values():
        if isinstance(value, StringArray):
            list(value)
            value.find("ß")
    config_gguf.read_config(header.metadata, {t.name: t for t in header.tensors}, "m.gguf")


def read_all_of_safetensors(data: bytes) -> None:
    for tensor in safetensors.read_header(data, "m.safetensors").tensors:
        assert 8 <= tensor.offset <= tensor.offset + tensor.size_bytes <= len(data)


@pytest.mark.parametrize("seed", range(4))
def test_mutated_gguf_headers(tmp_path: Path, seed: int) -> None:
    data = sound_gguf(tmp_path)
    assert survives(lambda d: gguf.read_header(d, "m.gguf"), data)
    rng = np.random.default_rng([1, seed])
    accepted = sum(survives(read_all_of_gguf, mutate(data, rng)) for _ in range(2500))
    assert 0 < accepted < 2000  # some injuries hit data or padding; most must not go unnoticed


@pytest.mark.parametrize("seed", range(2))
def test_mutated_safetensors_headers(tmp_path: Path, seed: int) -> None:
    data = sound_safetensors(tmp_path)
    assert survives(read_all_of_safetensors, data)
    rng = np.random.default_rng([2, seed])
    accepted = sum(survives(read_all_of_safetensors, mutate(data, rng)) for _ in range(3000))
    assert 0 < accepted < 2000


def test_mutated_safetensors_json(tmp_path: Path) -> None:
    data = sound_safetensors(tmp_path)
    length = struct.unpack_from("<Q", data)[0]
    text, rest = data[8 : 8 + length].decode(), data[8 + length :]
    rng = np.random.default_rng(3)
    accepted = 0
    for _ in range(3000):
        header = mutate_json(text, rng).encode()
        accepted += survives(read_all_of_safetensors, struct.pack("<Q", len(header)) + header + rest)
    assert 0 < accepted < 3000


def test_mutated_config_json() -> None:
    text = json.dumps(config_json.write_config(tiny_config("moe", vision=True, num_draft_layers=1)))

    def parse(data: bytes) -> None:
        try:
            values = json.loads(data)
        except ValueError:
            return
        if isinstance(values, dict):
            config_json.read_config(values, "config.json")

    rng = np.random.default_rng(4)
    accepted = sum(survives(parse, mutate_json(text, rng).encode()) for _ in range(3000))
    assert 0 < accepted < 3000


def test_random_bytes_behind_a_sound_beginning() -> None:
    """An empty header is sound whatever follows; with entries to read, noise is refused."""
    rng = np.random.default_rng(5)

    def read(data: bytes) -> None:
        gguf.read_header(data, "m.gguf")

    for _ in range(1500):
        noise = rng.bytes(int(rng.integers(0, 300)))
        assert not survives(read, b"GGUF" + struct.pack("<I", 3) + noise)
        counts = int(rng.integers(0, 4)), int(rng.integers(0, 4))
        assert survives(read, b"GGUF" + struct.pack("<IQQ", 3, *counts) + noise) == (counts == (0, 0))
        survives(read_all_of_safetensors, struct.pack("<Q", int(rng.integers(0, 400))) + noise)


def test_whole_checkpoints_with_injured_headers(tmp_path: Path) -> None:
    """Through ``open_checkpoint``: an injured header may still describe tensors; reading them must be safe too."""
    config = tiny_config("dense", width=32, vocab_size=32, num_key_heads=1, num_value_heads=2, ffn_width=32)
    tensors = random_tensors(config)
    write_gguf(tmp_path / "gguf" / "m.gguf", config, tensors)
    write_safetensors(tmp_path / "hf", config, tensors)

    def open_all(path: Path) -> None:
        checkpoint = open_checkpoint(path)
        for tensor in checkpoint.tensors.values():
            assert tensor.data.size
        checkpoint.close()

    rng = np.random.default_rng(6)
    for file, target in (("gguf/m.gguf", "gguf/m.gguf"), ("hf/model.safetensors", "hf"), ("hf/config.json", "hf")):
        path = tmp_path / file
        data = path.read_bytes()
        head = min(len(data), 6000)
        accepted = 0

        def parse(_: bytes, at: Path = tmp_path / target) -> None:
            open_all(at)

        for _ in range(250):
            path.write_bytes(mutate(data[:head], rng) + data[head:])
            accepted += survives(parse, b"")
        path.write_bytes(data)
        assert survives(parse, b"")
        assert accepted < 250


ODD_METADATA: tuple[Any, ...] = (
    0,
    -1,
    1 << 60,
    True,
    0.5,
    np.float64(np.nan),
    "",
    "text",
    [],
    ["a", "b"],
    np.zeros(0, np.int32),
    np.array([1, 2], np.int64),
    np.array([0.5, np.inf]),
    np.array([True, False]),
)


def test_metadata_of_every_wrong_type(tmp_path: Path) -> None:
    """Each key in turn holds each kind of value; arrays are the treacherous ones, since they compare elementwise."""
    config = tiny_config("moe", vision=True, width=32, vocab_size=32, num_key_heads=1, num_value_heads=2)
    assert config.vision is not None
    main = {"general.type": "model", "general.name": "x", "general.size_label": "x", "tokenizer.chat_template": "x"}
    main |= {"tokenizer.ggml.tokens": ["a"], "tokenizer.ggml.eos_token_id": 0, "split.no": 0, "split.count": 1}
    main |= {"split.tensors.count": 0, "qwen35moe.nextn_predict_layers": 0, "qwen35moe.rope.scaling.type": "none"}
    main |= {"qwen35moe.vision.block_count": 2, "general.alignment": 32} | config_gguf.write_config(config)
    vision = config_gguf.write_vision(config.vision)
    for file, keys in (("model", main), ("mmproj", vision)):
        for key in keys:
            for value in ODD_METADATA:
                for name, base in (("model", main), ("mmproj", vision)):
                    metadata = {**base, key: value} if name == file else base
                    gguf_writer.write_file(tmp_path / f"{name}.gguf", metadata, [])
                survives(lambda _: open_checkpoint(tmp_path / "model.gguf", mmproj=tmp_path / "mmproj.gguf"), b"")
                survives(lambda _: open_checkpoint(tmp_path / "mmproj.gguf"), b"")
                survives(lambda _: open_checkpoint(tmp_path), b"")


def test_json_of_every_wrong_type(tmp_path: Path) -> None:
    """Each field of each JSON file in turn holds each kind of value."""
    config = tiny_config("moe", vision=True, width=32, vocab_size=32, num_key_heads=1, num_value_heads=2)
    write_safetensors(tmp_path, config, random_tensors(config), num_files=2)
    others: dict[str, Any] = {
        "generation_config.json": {"eos_token_id": [1]},
        "chat_template.json": {"chat_template": "x"},
        "tokenizer_config.json": {
            "eos_token": {"content": "x"},
            "chat_template": [{"name": "default", "template": "x"}],
            "added_tokens_decoder": {"1": {"content": "x"}, "x": 1},
        },
    }
    for name, values in others.items():
        (tmp_path / name).write_text(json.dumps(values))
    assert open_checkpoint(tmp_path).eos_token_ids == (1, 248044)
    odd: tuple[Any, ...] = (None, 0, -1, 10**30, True, 0.5, "", "text", [], [1], [[]], {}, {"a": 1})
    for name in (*others, "config.json", "model.safetensors.index.json"):
        text = (tmp_path / name).read_text()
        values = json.loads(text)
        places = [(values, key) for key in list(values)[:12]]
        places += [(inner, key) for inner in values.values() if isinstance(inner, dict) for key in list(inner)[:40]]
        for table, key in places:
            kept = table[key]
            for value in odd:
                table[key] = value
                (tmp_path / name).write_text(json.dumps(values))
                survives(lambda _: open_checkpoint(tmp_path), b"")
            table[key] = kept
        (tmp_path / name).write_text(text)


def test_absurd_sizes_allocate_nothing(tmp_path: Path) -> None:
    """A file of a few hundred bytes that announces exabytes costs no memory."""
    data = sound_gguf(tmp_path)
    tracemalloc.start()
    try:
        for at in range(8, len(data) - 8, 3):
            for value in (1 << 34, 1 << 62):
                survives(read_all_of_gguf, data[:at] + struct.pack("<Q", value) + data[at + 8 :])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20
