"""Converts, quantizes and runs models with llama.cpp. Needs llama-cpp-python and, to convert, its sources and torch."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
from golden.llama_cases import LlamaCase
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from loqal.formats import FORMATS, num_bytes
from loqal.testing.checkpoints import write_safetensors

FILE_TYPES = {
    name: getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{name}")
    for name in (
        *("F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "IQ4_NL"),
        *("Q2_K", "Q3_K_S", "Q3_K_M", "Q4_K_S", "Q4_K_M", "Q5_K_M", "Q6_K", "IQ3_S", "IQ3_M", "IQ4_XS"),
    )
}
"""The mixtures that need no importance matrix. Each picks its own format for some tensors."""

CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]

# The converter knows a tokenizer by what it makes of a certain text, which only the published vocabulary can satisfy.
_CONVERT = """
import sys
source, folder, out, *options = sys.argv[1:]
sys.path[:0] = [source, source + "/gguf-py"]
import convert_hf_to_gguf
from conversion.base import TextModel
TextModel.get_vocab_base_pre = lambda self, tokenizer: "qwen35"
sys.argv = ["convert", folder, "--outfile", out, "--outtype", "f32", *options]
convert_hf_to_gguf.main()
"""


@llama_cpp.llama_log_callback
def _report_errors(level: int, text: bytes, user_data: Any) -> None:
    if level == 4:  # GGML_LOG_LEVEL_ERROR
        sys.stderr.write(text.decode(errors="replace"))


llama_cpp.llama_log_set(_report_errors, ctypes.c_void_p(0))
llama_cpp.llama_backend_init()


def write_checkpoint(case: LlamaCase, folder: Path) -> Path:
    """The model in safetensors with a tokenizer of single bytes and one merge, as the converter wants it."""
    write_safetensors(folder, case.config, case.tensors())
    vocabulary = {letter: byte for byte, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab={**vocabulary, "th": 256}, merges=[("t", "h")]))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer.add_special_tokens(CONTROL)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<|im_end|>"}')
    return folder


def convert(source: Path, case: LlamaCase, folder: Path) -> Path:
    """An F32 file in ``folder``, by convert_hf_to_gguf.py of the llama.cpp sources in ``source``."""
    checkpoint, out = write_checkpoint(case, folder / "checkpoint"), folder / "f32.gguf"
    options = [] if case.config.num_draft_layers else ["--no-mtp"]
    command = [sys.executable, "-c", _CONVERT, str(source), str(checkpoint), str(out), *options]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stderr[-2000:]
    return out


def quantize(path: Path, out: Path, file_type: str, importance: Mapping[str, np.ndarray] | None = None) -> Path:
    """Quantize a GGUF file with llama.cpp.

    Args:
        file_type: a key of ``FILE_TYPES``.
        importance: mean squares by tensor, float32 [matrices cols], as its own reader makes them of an importance file.
    """
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.nthread = FILE_TYPES[file_type], 1
    if importance:
        entries = [(name.encode(), np.ascontiguousarray(means, np.float32)) for name, means in importance.items()]
        array = (llama_cpp.llama_model_imatrix_data * (len(entries) + 1))()  # the last one has no name
        for entry, (name, means) in zip(array, entries, strict=False):
            entry.name, entry.size = name, means.size
            entry.data = means.ctypes.data_as(type(entry.data))
        params.imatrix = array
    status = llama_cpp.llama_model_quantize(str(path).encode(), str(out).encode(), ctypes.byref(params))
    assert status == 0, f"llama.cpp could not quantize {path} to {file_type}"
    return out


def logits(path: Path, ids: np.ndarray) -> np.ndarray:
    """Logits [N V] of all tokens, run in one batch on one thread."""
    with _context(path, len(ids)) as (context, vocab_size), _batch(ids) as batch:
        assert llama_cpp.llama_decode(context, batch) == 0
        return np.ctypeslib.as_array(llama_cpp.llama_get_logits(context), (len(ids), vocab_size)).copy()


@contextmanager
def _context(path: Path, num_tokens: int) -> Iterator[tuple[Any, int]]:
    model_params, params = llama_cpp.llama_model_default_params(), llama_cpp.llama_context_default_params()
    model_params.n_gpu_layers = 0
    model_params.use_extra_bufts = False  # no AMX: some machines announce it and forbid it
    params.n_ctx = params.n_batch = params.n_ubatch = num_tokens
    params.n_threads = params.n_threads_batch = 1
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), model_params)
    assert model, f"llama.cpp could not load {path}"
    context = llama_cpp.llama_init_from_model(model, params)
    assert context, "llama.cpp could not make a context"
    try:
        yield context, llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    finally:
        llama_cpp.llama_free(context)
        llama_cpp.llama_model_free(model)


@contextmanager
def _batch(ids: np.ndarray) -> Iterator[Any]:
    batch = llama_cpp.llama_batch_init(len(ids), 0, 1)
    batch.n_tokens = len(ids)
    for i, token in enumerate(ids):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = int(token), i, 1, 1
        batch.seq_id[i][0] = 0
    try:
        yield batch
    finally:
        llama_cpp.llama_batch_free(batch)


def quantize_values(name: str, values: np.ndarray, importance: np.ndarray | None) -> np.ndarray:
    """Values [rows cols] in the format ``name`` by ggml's own encoder, uint8; ``importance`` is of the columns."""
    library = ctypes.CDLL(str(next((Path(llama_cpp.__file__).parent / "lib").glob("libggml-base.*"))))
    encode = library.ggml_quantize_chunk
    encode.restype = ctypes.c_size_t
    encode.argtypes = [ctypes.c_int, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    rows, cols = values.shape
    out = np.empty(num_bytes(name, values.shape), np.uint8)
    weights = None if importance is None else importance.ctypes.data
    encode(FORMATS[name].ggml_type, values.ctypes.data, out.ctypes.data, 0, rows, cols, weights)
    return out
