"""Makes llama_cpp_q4_k_m.gguf with llama.cpp's converter and quantizer, and records what llama.cpp computes from it.

    PYTHONPATH=src:tests python -m golden.record_llama_cpp PATH/TO/llama.cpp

where the path holds the sources of llama.cpp (those inside the source package of llama-cpp-python do) and
llama-cpp-python 0.3.36, torch and transformers are installed.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from golden import llama_peer
from golden.llama_cases import SMALL, SMALL_FILE, LlamaRecording, divergence
from golden.logit_cases import digest


def main(source: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        exact_file = llama_peer.convert(source, SMALL, Path(folder))
        llama_peer.quantize(exact_file, SMALL_FILE, "Q4_K_M")
        exact = llama_peer.logits(exact_file, SMALL.ids())
    quantized = llama_peer.logits(SMALL_FILE, SMALL.ids())
    LlamaRecording(digest(SMALL.tensors()), quantized.astype(np.float16), exact.astype(np.float16)).save()
    print(f"{SMALL_FILE.stat().st_size} bytes, KL divergence {divergence(exact, quantized):.3e}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
