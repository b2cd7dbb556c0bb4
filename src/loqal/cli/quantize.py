"""``loqal quantize``, ``imatrix`` and ``check``: make a smaller file, say what matters in it, judge it."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path

from loqal.cli import options, terminal
from loqal.cli.progress import Progress, amount, clock
from loqal.quantize import api as quantize_api
from loqal.quantize.api import RECIPES, Comparison, Result

_SHOWN = 12  # tensors in a list that is not asked for in full


def quantize(words: Sequence[str]) -> int:
    """``loqal quantize``."""
    parser = options.Parser(
        "loqal quantize",
        "Make a smaller GGUF file of a model.",
        "loqal quantize [options] SOURCE TYPE [TARGET]\n\n"
        "  loqal quantize ./Qwen3.5-0.8B Q4_K_M                 from safetensors\n"
        "  loqal quantize model-BF16.gguf Q4_K_XL out.gguf      from GGUF, the sensitive tensors protected\n"
        "  loqal quantize model-BF16.gguf Q3_K_M --imatrix m    with the importance of inputs, see loqal imatrix\n\n"
        f"types: {', '.join(RECIPES)}\n\nInterrupted, the same command continues. The draft head is kept, and the "
        "vision tower of a\nsource that has it inside goes to an mmproj file beside the target.",
    )
    parser.add_argument("source", metavar="SOURCE")
    parser.add_argument("type", metavar="TYPE")
    parser.add_argument("target", metavar="TARGET", nargs="?")
    parser.add_argument("--imatrix", metavar="FILE", help="importance of inputs, from loqal imatrix or llama-imatrix")
    parser.add_argument("--threads", type=int, metavar="N", help="default: the cores this process may use")
    parser.add_argument("--json", action="store_true", help="write one JSON record")
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


def imatrix(words: Sequence[str]) -> int:
    """``loqal imatrix``."""
    parser = options.Parser(
        "loqal imatrix",
        "Measure on texts and images how much every input of every weight matters.",
        "loqal imatrix [options] MODEL --text FILE [--text FILE ...] [--image FILE ...] [--out FILE]\n\n"
        "The texts should be like those the model will see: conversations as the chat template writes them\n"
        "(control tokens count as such), tools, several languages. Each image is shown in front of a piece of text.\n"
        "The draft head is measured too, where there is one. The file is one that llama.cpp's tools read too.",
    )
    parser.add_argument("model", metavar="MODEL", help="the unquantized model, if it fits")
    parser.add_argument("--text", metavar="FILE", action="append", default=[])
    parser.add_argument("--image", metavar="FILE", action="append", default=[])
    parser.add_argument("--mmproj", metavar="FILE", help="the vision tower of a GGUF model that it does not lie beside")
    parser.add_argument("--out", metavar="FILE", help="default: the model's name with -imatrix.gguf")
    parser.add_argument("--max-tokens", type=int, metavar="N", help="stop after so many")
    parser.add_argument("--threads", type=int, metavar="N", help="default: the cores this process may use")
    parsed = parser.parse_args(list(words))
    text = "\n\n".join(quantize_api.texts([Path(path) for path in parsed.text]))
    mmproj = None if parsed.mmproj is None else Path(parsed.mmproj)
    target = Path(parsed.out or f"{Path(parsed.model.rpartition(':')[2]).stem}-imatrix.gguf")
    with Progress("reading", 1, "tokens") as line:
        quantize_api.measure_importance(
            parsed.model,
            text,
            target,
            images=[Path(path) for path in parsed.image],
            mmproj=mmproj,
            max_tokens=parsed.max_tokens,
            threads=parsed.threads,
            progress=line.update_of,
        )
    terminal.print_line(str(target))
    return 0


def check(words: Sequence[str]) -> int:
    """``loqal check``: exit code 3 when a tensor differs by more than its format explains."""
    parser = options.Parser(
        "loqal check",
        "Compare two files of one model.",
        "loqal check [options] A B [--text FILE]\n\n"
        "A is the truth. Without a text only tensors are compared; with one, what both predict on it.",
    )
    parser.add_argument("first", metavar="A")
    parser.add_argument("second", metavar="B")
    parser.add_argument("--text", metavar="FILE", action="append")
    parser.add_argument("--max-tokens", type=int, metavar="N", help="of the text (default: all)")
    parser.add_argument("--threads", type=int, metavar="N", help="default: the cores this process may use")
    parser.add_argument("--json", action="store_true", help="write one JSON record")
    parser.add_argument("--verbose", action="store_true", help="list every tensor that differs")
    parsed = parser.parse_args(list(words))
    text = "\n\n".join(quantize_api.texts([Path(path) for path in parsed.text])) if parsed.text else None
    with Progress("reading", 1, "tokens") as line:
        found = quantize_api.compare(
            parsed.first,
            parsed.second,
            text,
            max_tokens=parsed.max_tokens,
            threads=parsed.threads,
            progress=line.update_of,
        )
    if parsed.json:
        terminal.print_line(json.dumps(dataclasses.asdict(found), ensure_ascii=False))
    else:
        _print_comparison(found, verbose=parsed.verbose)
    return 3 if found.suspicious else 0


def _print_comparison(found: Comparison, *, verbose: bool) -> None:
    if not found.differences:
        terminal.print_line("All tensors are equal.")
    else:
        first = found.differences[0]
        formats = " and ".join(dict.fromkeys(first.formats))
        terminal.print_line(
            f"{len(found.differences)} tensors differ; the first is {first.name} ({formats}), by {first.difference:.3g}"
        )
    shown = found.differences if verbose else found.suspicious
    for entry in shown:
        note = ", more than the format explains" if entry.is_suspicious else ""
        terminal.print_line(f"  {entry.name} ({' and '.join(entry.formats)}): {entry.difference:.4f}{note}")
    if found.divergence is not None:
        d = found.divergence
        terminal.print_line(
            f"divergence over {d.num_tokens:,} tokens: mean {d.mean:.5f}, median {d.median:.5f}, "
            f"99 % below {d.percentile_99:.4f}, largest {d.largest:.3f} nats\n"
            f"same most likely token after {d.same_top:.2%}; perplexity {d.perplexity[0]:.4f} and {d.perplexity[1]:.4f}"
        )
