"""``loqal quantize``: write a quantized GGUF file of a model."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

from loqal.cli import options, terminal
from loqal.cli.progress import Progress, amount, clock
from loqal.quantize import api as quantize_api
from loqal.quantize.api import RECIPES, Result

_SHOWN = 12  # tensors in a list that is not asked for in full


def main(words: Sequence[str]) -> int:
    """Run the command and return its exit code. Raises LoqalError."""
    parser = options.Parser(
        "loqal quantize",
        "Write a quantized GGUF file of a model.",
        "loqal quantize [options] SOURCE TYPE [TARGET]\n\n"
        "  loqal quantize ./Qwen3.5-0.8B Q4_K_M                 from safetensors\n"
        "  loqal quantize model-BF16.gguf Q4_K_XL out.gguf      from GGUF, more bits for sensitive tensors\n"
        "  loqal quantize model-BF16.gguf Q3_K_M --imatrix m    with an importance matrix, see loqal imatrix\n\n"
        f"types: {', '.join(RECIPES)}\n\nThe same command resumes an interrupted run. The draft head is kept, and the "
        "vision tower of a\nsource that holds one is written to an mmproj file beside the target.",
    )
    parser.add_argument("source", metavar="SOURCE")
    parser.add_argument("type", metavar="TYPE")
    parser.add_argument("target", metavar="TARGET", nargs="?")
    parser.add_argument("--imatrix", metavar="FILE", help="importance matrix of loqal imatrix or llama-imatrix")
    parser.add_argument("--threads", type=int, metavar="N", help="default: the cores this process may use")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--verbose", action="store_true", help="list every tensor")
    parsed = parser.parse_args(list(words))
    started = time.monotonic()
    with Progress("quantizing", 1, "values") as line:
        result = quantize_api.quantize(
            parsed.source,
            parsed.type,
            None if parsed.target is None else Path(parsed.target),
            imatrix=None if parsed.imatrix is None else Path(parsed.imatrix),
            threads=parsed.threads,
            progress=line.update_of,
        )
    if parsed.json:
        terminal.print_line(json.dumps(_record(result), ensure_ascii=False))
        return 0
    _print_result(result, time.monotonic() - started, verbose=parsed.verbose)
    return 0


def _print_result(result: Result, seconds: float, *, verbose: bool) -> None:
    for note in result.notes:
        terminal.print_note(note)
    encoded = [tensor for tensor in result.tensors if tensor.source != tensor.format]
    worst = sorted(encoded, key=lambda tensor: -tensor.loss.weighted)
    shown = result.tensors if verbose else worst[:_SHOWN]
    width = max((len(tensor.name) for tensor in shown), default=6)
    terminal.print_line(f"{'tensor':{width}}  {'from':6} {'to':7} {'error':>9} {'weighted':>9}")
    for tensor in shown:
        weighted = f"{tensor.loss.weighted:9.5f}" if tensor.has_importance else f"{'':9}"
        terminal.print_line(
            f"{tensor.name:{width}}  {tensor.source:6} {tensor.format:7} {tensor.loss.plain:9.5f} {weighted}".rstrip()
        )
    if len(shown) < len(encoded):
        terminal.print_line(f"and {len(encoded) - len(shown)} more with less error (--verbose lists all)")
    terminal.print_line(
        f"\n{result.path}: {amount(result.path.stat().st_size)}, {result.bits_per_weight:.2f} bits a weight, "
        f"in {clock(seconds)}"
    )
    if result.mmproj is not None:
        terminal.print_line(f"{result.mmproj}: the vision tower, {amount(result.mmproj.stat().st_size)}")


def _record(result: Result) -> dict[str, object]:
    return {
        "path": str(result.path),
        "mmproj": None if result.mmproj is None else str(result.mmproj),
        "bytes": result.path.stat().st_size,
        "bits_per_weight": result.bits_per_weight,
        "notes": result.notes,
        "tensors": [
            {
                "name": tensor.name,
                "from": tensor.source,
                "to": tensor.format,
                "bytes": tensor.size_bytes,
                "error": tensor.loss.plain,
                "weighted_error": tensor.loss.weighted,
            }
            for tensor in result.tensors
        ],
    }
