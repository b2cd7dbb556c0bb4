"""The vision tower of a comparison: llama.cpp's, through the C functions that llama-cpp-python binds.

    PEER_PYTHON benchmarks/worker_mtmd.py MODEL MMPROJ PIXELS THREADS REPEAT FLASH OUT

encodes the picture in PIXELS (an .npy file, [height width 3]), writes the rows it gets to OUT and prints the seconds
of every run, one line each. Runs in an environment of its own. FLASH is 0 or 1: whether attention is llama.cpp's
fused one.
"""

from __future__ import annotations

import ctypes
import sys
import time

import llama_cpp
import numpy as np
from llama_cpp import mtmd_cpp


@llama_cpp.llama_log_callback
def _silent(level: int, text: bytes, user_data: ctypes.c_void_p) -> None:
    """Takes the log, which would go to stderr."""


def main(model_path: str, mmproj: str, pixels: str, threads: int, repeat: int, flash: int, out: str) -> None:
    """Encode and report."""
    llama_cpp.llama_log_set(_silent, ctypes.c_void_p(0))
    mtmd_cpp.mtmd_log_set(_silent, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    model = llama_cpp.llama_model_load_from_file(model_path.encode(), llama_cpp.llama_model_default_params())
    params = mtmd_cpp.mtmd_context_params_default()
    params.use_gpu, params.n_threads, params.print_timings = False, threads, False
    params.warmup, params.flash_attn_type, params.image_max_tokens = False, flash, 16384
    context = mtmd_cpp.mtmd_init_from_file(mmproj.encode(), model, params)
    if not context:
        sys.exit("llama.cpp cannot open the vision tower")
    image = np.ascontiguousarray(np.load(pixels))
    height, width, _ = image.shape
    data = (ctypes.c_uint8 * image.size).from_buffer_copy(image.tobytes())
    bitmap = mtmd_cpp.mtmd_bitmap_init(width, height, data)
    chunks = mtmd_cpp.mtmd_input_chunks_init()
    marker = mtmd_cpp.mtmd_default_marker()
    text = mtmd_cpp.mtmd_input_text(marker, len(marker), False, True)
    bitmaps = (mtmd_cpp.mtmd_bitmap_p_ctypes * 1)(bitmap)
    if mtmd_cpp.mtmd_tokenize(context, chunks, ctypes.byref(text), bitmaps, 1) != 0:
        sys.exit("llama.cpp cannot take the picture")
    for index in range(mtmd_cpp.mtmd_input_chunks_size(chunks)):
        chunk = mtmd_cpp.mtmd_input_chunks_get(chunks, index)
        if mtmd_cpp.mtmd_input_chunk_get_type(chunk) != 1:  # an image
            continue
        for _ in range(repeat):
            started = time.perf_counter()
            if mtmd_cpp.mtmd_encode_chunk(context, chunk) != 0:
                sys.exit("llama.cpp cannot encode the picture")
            print(time.perf_counter() - started, flush=True)
        tokens = mtmd_cpp.mtmd_input_chunk_get_n_tokens(chunk)
        embd = ctypes.cast(mtmd_cpp.mtmd_get_output_embd(context), ctypes.POINTER(ctypes.c_float))
        np.save(out, np.ctypeslib.as_array(embd, (tokens, llama_cpp.llama_model_n_embd(model))).copy())


if __name__ == "__main__":
    main(*sys.argv[1:4], *map(int, sys.argv[4:7]), sys.argv[7])
