"""``loqal show``: describe a model file, and what of it will not be used."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterable, Sequence

import loqal
from loqal.cli import attachments, options, terminal
from loqal.runtime import open_model
from loqal.runtime.model_info import ModelInfo

_USAGE = """loqal show [--json] [MODEL] [--media FILE ...]

  loqal show               the embedded model
  loqal show model.gguf    a file, a folder, or a name
  loqal show --media photo.jpg    size and tokens of an image or a video, without running a model
"""
_NAMES_SHOWN = 4  # of the tensors ignored for one reason


def main(words: Sequence[str]) -> int:
    """Run the command and return its exit code. Raises LoqalError."""
    parser = options.Parser("loqal show", "Describe a model file, or an image or a video as a model sees it.", _USAGE)
    parser.add_argument("model", nargs="?", metavar="MODEL", help="a file, a folder, or a name (default: the embedded)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--media", action="append", default=[], metavar="FILE", help="describe an image or a video; may be repeated"
    )
    parser.add_argument("--mmproj", metavar="FILE", help="the separate vision tower of a GGUF model")
    attachments.add_bounds(parser)
    parsed = parser.parse_args(list(words))
    if parsed.media:
        return _show_media(parsed)
    info = loqal.inspect(open_model.locate(parsed.model), mmproj=parsed.mmproj)
    if parsed.json:
        terminal.print_line(json.dumps(dataclasses.asdict(info), ensure_ascii=False))
    else:
        terminal.print_line("\n".join(_lines(info)))
    return 0


def _show_media(parsed: argparse.Namespace) -> int:
    bounds = attachments.bounds(parsed)
    model = None if parsed.model is None else open_model.locate(parsed.model)
    for path in parsed.media:
        info = loqal.media_info(bounds.part(attachments.kind_of(path), path), model, mmproj=parsed.mmproj)
        if parsed.json:
            terminal.print_line(json.dumps(dataclasses.asdict(info), ensure_ascii=False))
        else:
            terminal.print_line(terminal.media_line(info))
            if info.seconds:
                times = ", ".join(f"{second:.1f}" for second in info.seconds)
                terminal.print_line(f"  seconds {times}")
    return 0


def _lines(info: ModelInfo) -> Iterable[str]:
    for label, text in _facts(info):
        yield f"{label:14} {text}"
    yield ""
    yield f"{'quantization':14} {'tensors':>8} {'bytes':>16}"
    for share in info.quantization:
        yield f"{share.format:14} {share.num_tensors:8,} {share.size_bytes:16,}"
    if info.ignored:
        yield "\nnot used"
    for group in info.ignored:
        more = len(group.names) - _NAMES_SHOWN
        names = ", ".join(group.names[:_NAMES_SHOWN]) + (f" and {more:,} more" if more > 0 else "")
        yield f"  {names}: {group.reason}"
    if info.notes:
        yield "\nnotes"
    for note in info.notes:
        yield f"  {note}"


def _facts(info: ModelInfo) -> Iterable[tuple[str, str]]:
    counts = info.parameters
    num_layers = info.num_delta_layers + info.num_attention_layers
    yield "name", info.name
    yield "architecture", info.architecture
    yield "size", info.size_label or "none of the published sizes"
    parts = [f"{counts['total']:,} (text {counts['text']:,}"]
    parts += [f"{part} {counts[part]:,}" for part in ("vision", "draft") if counts[part]]
    yield "parameters", ", ".join(parts) + ")"
    if counts["active"] != counts["text_without_embedding"]:
        yield "active", f"{counts['active']:,} per token, the embedding apart"
    yield "layers", f"{num_layers} ({info.num_delta_layers} recurrent, {info.num_attention_layers} attention)"
    yield "width", f"{info.width:,}"
    yield "context", f"{info.context_len:,} tokens"
    yield "vocabulary", f"{info.vocab_size:,} rows"
    yield "tokenizer", info.tokenizer
    yield "template", f"{info.template}; {'thinks' if info.thinks_by_default else 'does not think'} by default"
    yield "draft head", "yes" if info.has_draft_head else "no"
    yield "vision", "yes" if info.has_vision else "no"
    for index, path in enumerate(info.files):
        yield ("" if index else "files"), path
    yield "file bytes", f"{info.file_bytes:,} ({info.format})"
