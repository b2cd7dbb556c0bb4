"""How fast pictures are encoded, with random weights of a published tower.

    python benchmarks/vision.py [--size 0.8B] [--format F16] [--pixels 1024] [--peer-python PATH]

prints the seconds of a square picture of that many pixels a side, the arithmetic done and its share of the machine's
measured float peak, and the memory it took at most beside what the plan says; with --peer-python also those of
llama.cpp on the very same files, and how far the two are apart.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Self

import numpy as np

from loqal.media.patches import cut
from loqal.media.resize_rules import PatchRules
from loqal.model.config import ModelConfig, VisionConfig
from loqal.model.sizes import SIZES
from loqal.model.vision_tower import VisionTower, encoding_bytes
from loqal.ops.backends.cpu import CpuOps
from loqal.system.memory import resident_bytes
from loqal.testing.checkpoints import random_tensors, tiny_config, write_gguf
from loqal.testing.vocabularies import placeholder_vocabulary
from loqal.weights.load import open_checkpoint

_HERE = Path(__file__).parent


def multiplications(config: VisionConfig, patches: int) -> int:
    """Of weights and of attention, for one picture."""
    layer = 4 * config.width**2 + 2 * config.width * config.ffn_width
    group = config.merge_size**2
    merged = (group * config.width) ** 2 + group * config.width * config.out_width
    embedded = config.width * 3 * config.temporal_patch_size * config.patch_size**2
    attention = 2 * patches * patches * config.width * config.depth
    return patches * (embedded + layer * config.depth) + patches // group * merged + attention


def write_model(folder: Path, size: str, format: str) -> tuple[Path, Path]:
    """A file with the tower of a size in a format, and one with a small text model of the same width."""
    published = SIZES[size]
    config: ModelConfig = dataclasses.replace(
        tiny_config(), width=published.width, vocab_size=512, vision=published.vision, ffn_width=256
    )
    model, mmproj = folder / "model.gguf", folder / "mmproj.gguf"
    metadata = placeholder_vocabulary(config.vocab_size)
    write_gguf(model, config, random_tensors(config), "Q8_0", mmproj=mmproj, metadata=metadata, vision_format=format)
    return model, mmproj


def measure(model: Path, mmproj: Path, image: np.ndarray, threads: int | None, repeat: int) -> np.ndarray:
    """Prints what loqal does; the rows."""
    checkpoint = open_checkpoint(model, mmproj=mmproj)
    config = checkpoint.config.vision
    assert config is not None
    ops = CpuOps(threads=threads)
    tower = VisionTower(config, ops, checkpoint.tensors)
    patches, grid = cut([image], PatchRules(config.patch_size, config.temporal_patch_size, config.merge_size))
    peaks, seconds, rows = [ops.float_gflops()], [], np.empty(0)
    with _Peak() as peak_memory:
        tower.encode(patches, grid.rows, grid.columns)
    for _ in range(repeat):
        started = time.perf_counter()
        rows = tower.encode(patches, grid.rows, grid.columns)
        seconds.append(time.perf_counter() - started)
        peaks.append(ops.float_gflops())
    gflop = 2e-9 * multiplications(config, len(patches))
    took, peak = statistics.median(seconds), statistics.median(peaks)
    print(
        f"loqal      {took:7.2f} s  {gflop / took:6.0f} GFLOPS, {gflop / took / peak:.0%} of the measured peak of "
        f"{peak:.0f}; {len(patches)} patches, {gflop:.0f} GFLOP, {ops.name}",
        flush=True,
    )
    planned = encoding_bytes(config, len(patches))
    print(f"memory     {peak_memory.num_bytes / 1e6:.1f} MB at most, {planned / 1e6:.1f} MB planned", flush=True)
    return rows


class _Peak(threading.Thread):
    """Most memory that is resident while a block runs, beyond what was before, looked at every few milliseconds."""

    def __enter__(self) -> Self:
        ctypes.CDLL(None).malloc_trim(0)  # else what was freed before would be used again and not be seen
        self._before = self._most = resident_bytes()
        self._end = threading.Event()
        self.start()
        return self

    def run(self) -> None:
        while not self._end.wait(0.003):
            self._most = max(self._most, resident_bytes())

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self.join()
        self.num_bytes = self._most - self._before


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="0.8B", choices=SIZES)
    parser.add_argument("--format", default="F16")
    parser.add_argument("--pixels", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--peer-python")
    given = parser.parse_args()
    image = np.random.default_rng(0).integers(0, 256, (given.pixels, given.pixels, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, mmproj = write_model(folder, given.size, given.format)
        rows = measure(model, mmproj, image, given.threads, given.repeat)
        if not given.peer_python:
            return
        np.save(folder / "pixels.npy", image)
        for flash in ("0", "1"):
            command = [given.peer_python, str(_HERE / "worker_mtmd.py"), str(model), str(mmproj)]
            command += [str(folder / "pixels.npy"), str(given.threads or CpuOps().threads), str(given.repeat), flash]
            done = subprocess.run([*command, str(folder / "rows.npy")], capture_output=True, text=True)
            if done.returncode:
                sys.exit(done.stderr[-2000:])
            seconds = [float(line) for line in done.stdout.split()]
            theirs = np.load(folder / "rows.npy")
            apart = np.linalg.norm(theirs - rows) / np.linalg.norm(rows) if theirs.shape == rows.shape else np.nan
            fused = "fused" if flash == "1" else "plain"
            print(f"llama.cpp  {statistics.median(seconds):7.2f} s  {fused} attention; rows are {apart:.1e} apart")


if __name__ == "__main__":
    main()
