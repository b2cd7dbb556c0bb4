"""Files that cannot be used: every one is refused with a reason and a way out, none with a traceback."""

from __future__ import annotations

import dataclasses
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loqal.errors import CheckpointError, FormatError, TensorError, UnsupportedError
from loqal.formats import gguf_header
from loqal.testing.checkpoints import random_tensors, tiny_config, to_gguf, to_hf, write_gguf, write_safetensors
from loqal.weights import gguf, gguf_writer, safetensors, safetensors_writer
from loqal.weights.config_gguf import write_config
from loqal.weights.load import open_checkpoint
from loqal.weights.source import OutTensor

CONFIG = tiny_config(num_draft_layers=1)
TENSORS = random_tensors(CONFIG)


def refused(path: Path, *words: str, kind: type[CheckpointError] = CheckpointError, **options: Any) -> CheckpointError:
    with pytest.raises(kind) as caught:
        open_checkpoint(path, **options)
    for word in words:
        assert word in str(caught.value), str(caught.value)
    assert caught.value.what and caught.value.fix
    return caught.value


# --- safetensors ---


def st(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def one(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


SOUND = st({"a": one(), "__metadata__": {"format": "pt"}}, bytes(8))

BROKEN_SAFETENSORS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "alone takes 8"),
    "short": (bytes(7), "alone takes 8"),
    "huge header": (struct.pack("<Q", 1 << 60) + b"{}", "limit"),
    "header behind the end": (struct.pack("<Q", 1000) + b"{}", "1000 bytes"),
    "no brace": (st(b"[1]"), "brace"),
    "not JSON": (st(b'{"a": '), "JSON"),
    "not UTF-8": (st(b'{"\xff": 1}'), "UTF-8"),
    "deep": (st(b'{"a":' + b"[" * 200_000), "deep"),
    "digits": (st(b'{"a":' + b"1" * 10_000 + b"}"), "JSON"),
    "NaN": (st(b'{"a": NaN}'), "NaN"),
    "name twice": (st(b'{"a": 1, "a": 1}'), "twice"),
    "field twice": (st(b'{"a": {"dtype": "F32", "dtype": "F32", "shape": [], "data_offsets": [0, 4]}}'), "twice"),
    "entry": (st({"a": 5}), "data_offsets"),
    "extra field": (st({"a": {**one(), "x": 1}}), "data_offsets"),
    "dtype": (st({"a": one("F33")}, bytes(8)), "F33"),
    "dtype list": (st({"a": one([])}, bytes(8)), "type"),
    "shape": (st({"a": one(shape=[-2])}, bytes(8)), "shape"),
    "shape real": (st({"a": one(shape=[2.0])}, bytes(8)), "shape"),
    "shape true": (st({"a": one(shape=[True, 2])}, bytes(8)), "shape"),
    "shape overflow": (st({"a": one(shape=[1 << 62, 1 << 62])}, bytes(8)), "takes"),
    "long shape": (st({"a": one(shape=[1] * 100)}, bytes(8)), "shape"),
    "offsets": (st({"a": one(offsets=[8, 0])}, bytes(8)), "data_offsets"),
    "one offset": (st({"a": one(offsets=[8])}, bytes(8)), "data_offsets"),
    "size": (st({"a": one(shape=[3])}, bytes(8)), "takes 12"),
    "overlap": (st({"a": one(), "b": one(offsets=[4, 12])}, bytes(12)), "overlaps"),
    "hole": (st({"a": one(), "b": one(offsets=[12, 20])}, bytes(20)), "hole"),
    "hole first": (st({"a": one(offsets=[4, 12])}, bytes(12)), "hole"),
    "data behind": (st({"a": one()}, bytes(9)), "end"),
    "data missing": (st({"a": one()}, bytes(7)), "end"),
    "metadata": (st({"__metadata__": {"a": 1}}), "__metadata__"),
    "metadata list": (st({"__metadata__": []}), "__metadata__"),
}


@pytest.mark.parametrize("name", BROKEN_SAFETENSORS)
def test_broken_safetensors(name: str, tmp_path: Path) -> None:
    data, word = BROKEN_SAFETENSORS[name]
    with pytest.raises(FormatError) as caught:
        safetensors.read_header(data, "file")
    assert word in str(caught.value) and "file" in caught.value.what
    write_safetensors(tmp_path, CONFIG, TENSORS)
    (tmp_path / "model.safetensors").write_bytes(data)
    refused(tmp_path, kind=FormatError)


def test_sound_safetensors() -> None:
    header = safetensors.read_header(SOUND, "file")
    assert header.metadata == {"format": "pt"}
    assert [(t.name, t.format, t.shape, t.size_bytes) for t in header.tensors] == [("a", "F32", (2,), 8)]
    assert header.tensors[0].offset == len(SOUND) - 8


# --- GGUF ---


def text(raw: str | bytes) -> bytes:
    raw = raw.encode() if isinstance(raw, str) else raw
    return struct.pack("<Q", len(raw)) + raw


def entry(name: str | bytes = "t", dims: tuple[int, ...] = (2,), kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)


def gg(
    keys: bytes = b"",
    tensors: bytes = b"",
    data: bytes = b"",
    *,
    counts: tuple[int, int] | None = None,
    version: int = 3,
) -> bytes:
    num_tensors, num_keys = counts or (int(bool(tensors)), int(bool(keys)))
    header = b"GGUF" + struct.pack("<IQQ", version, num_tensors, num_keys) + keys + tensors
    return header + bytes(-len(header) % 32) + data


def key(kind: int, value: bytes, name: str | bytes = "k") -> bytes:
    return text(name) + struct.pack("<I", kind) + value


def align(value: int) -> bytes:
    return key(4, struct.pack("<I", value), "general.alignment")


U64_MAX = (1 << 64) - 1

BROKEN_GGUF: dict[str, tuple[bytes, str]] = {
    "letters": (b"GGML" + bytes(60), "letters"),
    "version": (gg(version=1), "version 1"),
    "version 4": (gg(version=4), "version 4"),
    "big endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
    "cut in counts": (b"GGUF" + struct.pack("<IQ", 3, 0), "ends inside"),
    "many tensors": (gg(counts=(U64_MAX, 0)), "tensors"),
    "many keys": (gg(counts=(0, 1 << 40)), "metadata entries"),
    "long key": (gg(struct.pack("<Q", 1 << 40), counts=(0, 1)) + bytes(32), "longer"),
    "key behind the end": (gg(struct.pack("<Q", 60_000), counts=(0, 1)) + bytes(32), "left"),
    "key not UTF-8": (gg(key(4, bytes(4), b"\xff")), "UTF-8"),
    "key twice": (gg(key(4, bytes(4)) * 2, counts=(0, 2)), "twice"),
    "value type": (gg(key(13, bytes(8))), "type 13"),
    "string behind the end": (gg(key(8, struct.pack("<Q", U64_MAX))), "left"),
    "string not UTF-8": (gg(key(8, text(b"\xc3"))), "UTF-8"),
    "truth": (gg(key(7, b"\x02" + bytes(32))), "neither"),
    "array of arrays": (gg(key(9, struct.pack("<IQ", 9, 1) + bytes(12))), "array of arrays"),
    "array type": (gg(key(9, struct.pack("<IQ", 77, 1) + bytes(12))), "type 77"),
    "array count": (gg(key(9, struct.pack("<IQ", 4, U64_MAX))), "values"),
    "strings count": (gg(key(9, struct.pack("<IQ", 8, 1 << 60))), "strings"),
    "strings length": (gg(key(9, struct.pack("<IQQ", 8, 1, U64_MAX)) + bytes(32)), "after the end"),
    "alignment zero": (gg(align(0)), "power of two"),
    "alignment odd": (gg(align(24)), "power of two"),
    "alignment huge": (gg(align(1 << 31)), "power of two"),
    "alignment text": (gg(key(8, text("32"), "general.alignment")), "power of two"),
    "no dimensions": (gg(tensors=entry(dims=())) + bytes(64), "0 dimensions"),
    "many dimensions": (gg(tensors=entry(dims=(1,) * 5), data=bytes(64)), "5 dimensions"),
    "name too long": (gg(tensors=entry("n" * 300), data=bytes(64)), "longer"),
    "name not UTF-8": (gg(tensors=entry(b"\xfe"), data=bytes(64)), "UTF-8"),
    "no values": (gg(tensors=entry(dims=(0,)), data=bytes(64)), "whole"),
    "type unknown": (gg(tensors=entry(kind=999), data=bytes(64)), "type 999"),
    "type refused": (gg(tensors=entry(kind=34, dims=(256,)), data=bytes(64)), "TQ1_0"),
    "blocks": (gg(tensors=entry(kind=12, dims=(255,)), data=bytes(256)), "Q4_K"),
    "dims overflow": (gg(tensors=entry(dims=(1 << 63, 1 << 63, 4)), data=bytes(64)), "takes"),
    "after the end": (gg(tensors=entry(dims=(17,)), data=bytes(64)), "ends at byte"),
    "offset behind the end": (gg(tensors=entry(offset=1 << 62), data=bytes(64)), "ends at byte"),
    "offset not aligned": (gg(tensors=entry(offset=4), data=bytes(64)), "multiple"),
    "overlap": (gg(tensors=entry("a", (9,)) + entry("b", offset=32), data=bytes(64), counts=(2, 0)), "overlaps"),
    "same bytes": (gg(tensors=entry("a") + entry("b"), data=bytes(64), counts=(2, 0)), "overlaps"),
    "tensor twice": (gg(tensors=entry() + entry(offset=32), data=bytes(64), counts=(2, 0)), "twice"),
}


@pytest.mark.parametrize("name", BROKEN_GGUF)
def test_broken_gguf(name: str, tmp_path: Path) -> None:
    data, word = BROKEN_GGUF[name]
    with pytest.raises((FormatError, UnsupportedError)) as caught:
        gguf.read_header(data, "file")
    assert word in str(caught.value) and "file" in caught.value.what
    (tmp_path / "m.gguf").write_bytes(data)
    refused(tmp_path / "m.gguf")


def test_every_kind_of_metadata_survives(tmp_path: Path) -> None:
    kinds = {kind: dtype for kind, dtype in gguf_header.SCALARS.items() if kind != gguf_header.BOOL}
    numbers = {f"n.{kind}": np.array([1, 2, 100], dtype) for kind, dtype in kinds.items()}
    scalars = {f"s.{kind}": dtype.type(1) for kind, dtype in gguf_header.SCALARS.items()}
    plain = {
        "text": "Größe",
        "list": ["a", "", "ß"],
        "flag": True,
        "int": 5,
        "negative": -5,
        "big": 1 << 40,
        "real": 0.5,
    }
    empty = {"no strings": [], "no numbers": np.zeros(0, np.int32), "truths": np.array([True, False])}
    written = {**numbers, **scalars, **plain, **empty}
    for version in (2, 3):
        gguf_writer.write_file(tmp_path / "m.gguf", written, [], version=version, alignment=64)
        header = gguf.read_header((tmp_path / "m.gguf").read_bytes(), "file")
        assert (header.version, header.alignment) == (version, 64)
        for name, value in written.items():
            found = header.metadata[name]
            if isinstance(value, np.ndarray):
                assert found.dtype == value.dtype and found.tolist() == value.tolist()
                assert not found.flags.writeable
            elif isinstance(value, list):
                assert list(found) == value and found[:] == value and len(found) == len(value)
            else:
                assert found == value


def test_broken_strings_of_a_vocabulary_are_refused_when_read() -> None:
    raw = [b"ok", b"\xff\xfe", b"fine"]
    header = gguf.read_header(gg(key(9, struct.pack("<IQ", 8, 3) + b"".join(map(text, raw)))), "file")
    strings = header.metadata["k"]
    assert (strings[0], strings[-1], strings.raw(1)) == ("ok", "fine", b"\xff\xfe")
    assert (strings.find("fine"), strings.find("none")) == (2, None)
    for read in (lambda: strings[1], lambda: list(strings)):
        with pytest.raises(FormatError, match="string 1 is not UTF-8"):
            read()
    with pytest.raises(IndexError):
        strings[3]


# --- whole checkpoints ---


def rewrite(folder: Path, change: Callable[[dict[str, np.ndarray]], None], stored: str = "F32") -> None:
    write_safetensors(folder, CONFIG, TENSORS)
    state = {n.replace("model.language_model.", "model."): a for n, a in to_hf(CONFIG, TENSORS).items()}
    change(state)
    out = [OutTensor(name, stored, array.shape, array.tobytes()) for name, array in state.items()]
    safetensors_writer.write_file(folder / "model.safetensors", out)


def test_missing_tensors_are_named_in_both_vocabularies(tmp_path: Path) -> None:
    rewrite(tmp_path, lambda s: s.pop("model.layers.1.linear_attn.in_proj_qkv.weight"))
    refused(tmp_path, "layers.1.delta.qkv", "linear_attn.in_proj_qkv.weight", "blk.1.attn_qkv.weight", kind=TensorError)


def test_a_draft_head_with_holes_is_refused(tmp_path: Path) -> None:
    rewrite(tmp_path, lambda s: s.pop("mtp.norm.weight"))
    refused(tmp_path, "draft.output_norm", "mtp.norm.weight", kind=TensorError)


def test_unknown_tensors_are_named(tmp_path: Path) -> None:
    rewrite(tmp_path, lambda s: s.update({"model.layers.0.self_attn.q_proj.weight": np.ones(3, np.float32)}))
    refused(tmp_path, "model.layers.0.self_attn.q_proj.weight", kind=TensorError)


def test_wrong_shapes_are_stated_beside_the_right_ones(tmp_path: Path) -> None:
    rewrite(tmp_path, lambda s: s.update({"model.norm.weight": np.ones(65, np.float32)}))
    refused(tmp_path, "(65,)", "(64,)", "output_norm", kind=TensorError)


def test_the_layout_of_mlx_is_recognised(tmp_path: Path) -> None:
    rewrite(tmp_path, lambda s: s.update({"language_model.model.norm.weight": np.ones(64, np.float32)}))
    refused(tmp_path, "MLX", kind=UnsupportedError)


def test_tensors_of_undeclared_parts_are_ignored_with_a_reason(tmp_path: Path) -> None:
    rewrite(tmp_path, lambda s: s.update({"model.visual.patch_embed.proj.bias": np.ones(3, np.float32)}))
    (ignored,) = open_checkpoint(tmp_path).ignored
    assert "without vision" in ignored.reason


def test_types_that_cannot_be_used(tmp_path: Path) -> None:
    rewrite(tmp_path, lambda s: None)
    data = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(data.replace(b'"dtype":"F32"', b'"dtype":"I32"'))
    refused(tmp_path, "I32", "F16", kind=UnsupportedError)


def test_quantized_small_tensors_are_refused(tmp_path: Path) -> None:
    out = []
    for name, (_, array) in to_gguf(CONFIG, TENSORS).items():
        kind = "Q8_0" if name == "blk.0.attn_norm.weight" else "F32"
        data = bytes(array.size // 32 * 34) if kind == "Q8_0" else array.tobytes()
        out.append(OutTensor(name, kind, array.shape, data))
    gguf_writer.write_file(tmp_path / "m.gguf", write_config(CONFIG), out)
    refused(tmp_path / "m.gguf", "blk.0.attn_norm.weight", "Q8_0", "F32", kind=UnsupportedError)


def test_truncated_files(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", CONFIG, TENSORS)
    data = path.read_bytes()
    for size in (0, 3, 20, 1000, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        refused(path)


def test_paths_that_are_no_checkpoint(tmp_path: Path) -> None:
    refused(tmp_path / "nothing", "does not exist")
    refused(tmp_path, "not a checkpoint")
    (tmp_path / "notes.txt").write_text("hello")
    refused(tmp_path / "notes.txt", "not a checkpoint", kind=UnsupportedError)
    refused(tmp_path / ("x" * 5000))
    safetensors_writer.write_file(tmp_path / "model.safetensors", [])
    refused(tmp_path, "config.json")


def test_two_models_in_a_folder(tmp_path: Path) -> None:
    write_gguf(tmp_path / "a.gguf", CONFIG, TENSORS)
    write_gguf(tmp_path / "b.gguf", CONFIG, TENSORS)
    refused(tmp_path, "a.gguf", "b.gguf")
    (tmp_path / "b.gguf").unlink()
    write_safetensors(tmp_path, CONFIG, TENSORS)
    refused(tmp_path, "a.gguf", "model.safetensors")
    (tmp_path / "a.gguf").unlink()
    (tmp_path / "other.safetensors").write_bytes(SOUND)
    refused(tmp_path, "model.safetensors", "other.safetensors")


def test_index_faults(tmp_path: Path) -> None:
    write_safetensors(tmp_path, CONFIG, TENSORS, num_files=2)
    index = tmp_path / "model.safetensors.index.json"
    names = json.loads(index.read_text())["weight_map"]
    first = next(iter(names.values()))
    for weight_map in ({}, {"a": "../x.safetensors"}, {"a": 5}, {"a": "gone.safetensors"}, {**names, "a": first}):
        index.write_text(json.dumps({"weight_map": weight_map}))
        refused(tmp_path)
    for broken in ("[]", "{", "[" * 100_000):
        index.write_text(broken)
        refused(tmp_path)
    index.write_text(json.dumps({"weight_map": names}))
    (tmp_path / "second.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    refused(tmp_path, "second.safetensors.index.json")


def test_a_name_in_two_files(tmp_path: Path) -> None:
    write_safetensors(tmp_path, CONFIG, TENSORS, num_files=2)
    for part in sorted(tmp_path.glob("*.safetensors"))[1:]:
        part.write_bytes(sorted(tmp_path.glob("*.safetensors"))[0].read_bytes())
    refused(tmp_path, "is in", kind=FormatError)


def test_split_faults(tmp_path: Path) -> None:
    out = [OutTensor(n, "F32", a.shape, a.tobytes()) for n, (_, a) in to_gguf(CONFIG, TENSORS).items()]

    def write(i: int, number: int, tensors: list[OutTensor], total: int = len(out)) -> Path:
        path = tmp_path / f"m-{i:05d}-of-00002.gguf"
        keys = {"split.no": np.uint16(number), "split.count": np.uint16(2), "split.tensors.count": np.int32(total)}
        gguf_writer.write_file(path, {**write_config(CONFIG), **keys}, tensors)
        return path

    first = write(1, 0, out[::2])
    refused(first, "m-00002-of-00002.gguf", kind=FormatError)
    write(2, 0, out[1::2])
    refused(first, "part 0", kind=FormatError)
    write(2, 1, out[::2])
    refused(first, "two parts", kind=FormatError)
    write(2, 1, out[1:-1:2])
    refused(first, "announces", kind=FormatError)
    write(2, 1, out[1::2])
    assert open_checkpoint(first).config == CONFIG
    refused(first.rename(tmp_path / "renamed.gguf"), "does not say which", kind=FormatError)


def test_parts_of_models_say_what_they_are(tmp_path: Path) -> None:
    config = tiny_config(vision=True, num_draft_layers=1)
    tensors = random_tensors(config)
    main = write_gguf(tmp_path / "m.gguf", config, tensors, mmproj=tmp_path / "mmproj.gguf")
    refused(tmp_path / "mmproj.gguf", "vision tower", kind=UnsupportedError)
    refused(main, "not clip", kind=UnsupportedError, mmproj=main)
    refused(main, "does not exist" if False else "Cannot read", mmproj=tmp_path / "none.gguf")
    arrays = {n: a for n, (_, a) in to_gguf(CONFIG, TENSORS).items() if n.startswith("blk.4.") or "blk." not in n}
    out = [OutTensor(name, "F32", array.shape, array.tobytes()) for name, array in arrays.items()]
    gguf_writer.write_file(tmp_path / "mtp.gguf", write_config(CONFIG), out)
    refused(tmp_path / "mtp.gguf", "draft head", kind=UnsupportedError)
    gguf_writer.write_file(tmp_path / "lora.gguf", {"general.type": "adapter"}, [])
    refused(tmp_path / "lora.gguf", "adapter", kind=UnsupportedError)
    wide = tiny_config(width=128)
    refused(
        write_gguf(tmp_path / "wide.gguf", wide, random_tensors(wide)),
        "another model",
        mmproj=tmp_path / "mmproj.gguf",
    )
    write_safetensors(tmp_path / "hf", CONFIG, TENSORS)
    refused(tmp_path / "hf", "safetensors carry their own", mmproj=tmp_path / "mmproj.gguf")


def test_a_folder_of_parts(tmp_path: Path) -> None:
    config = tiny_config(vision=True)
    write_gguf(tmp_path / "m.gguf", config, random_tensors(config), mmproj=tmp_path / "mmproj-a.gguf")
    (tmp_path / "mmproj-b.gguf").write_bytes((tmp_path / "mmproj-a.gguf").read_bytes())
    refused(tmp_path, "mmproj-a.gguf", "mmproj-b.gguf")
    assert open_checkpoint(tmp_path, mmproj=tmp_path / "mmproj-b.gguf").config == config
    (tmp_path / "m.gguf").unlink()
    refused(tmp_path, "no language model")


def test_dedicated_draft_embeddings_are_refused(tmp_path: Path) -> None:
    arrays = {name: array for name, (_, array) in to_gguf(CONFIG, TENSORS).items()}
    arrays["blk.4.nextn.embed_tokens.weight"] = TENSORS["embed"]
    out = [OutTensor(name, "F32", array.shape, array.tobytes()) for name, array in arrays.items()]
    gguf_writer.write_file(tmp_path / "m.gguf", write_config(CONFIG), out)
    refused(tmp_path / "m.gguf", "blk.4.nextn.embed_tokens.weight", kind=TensorError)


def test_a_writer_that_is_given_wrong_bytes_leaves_no_file(tmp_path: Path) -> None:
    wrong = OutTensor("a", "F32", (2,), bytes(7))
    for write in (
        lambda: gguf_writer.write_file(tmp_path / "x", {}, [wrong]),
        lambda: safetensors_writer.write_file(tmp_path / "x", [wrong]),
    ):
        with pytest.raises(ValueError, match="7 bytes"):
            write()
    with pytest.raises(TypeError):
        gguf_writer.write_file(tmp_path / "x", {"a": object()}, [])
    assert not list(tmp_path.iterdir())


def test_config_and_tensors_must_agree(tmp_path: Path) -> None:
    other = dataclasses.replace(CONFIG, ffn_width=128)
    write_safetensors(tmp_path, CONFIG, TENSORS)
    (tmp_path / "config.json").write_text(
        (tmp_path / "config.json").read_text().replace('"intermediate_size": 96', '"intermediate_size": 128')
    )
    assert other.ffn_width == 128
    refused(tmp_path, "(96, 64)", "(128, 64)", kind=TensorError)
