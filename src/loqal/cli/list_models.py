"""``loqal list``: the models on this machine, or those that are published."""

from __future__ import annotations

import collections
import dataclasses
import json
import math
import shutil
from collections.abc import Sequence

from loqal.cli import options, terminal
from loqal.cli.progress import amount
from loqal.hub import catalog, find, local_models, provenance, remove
from loqal.hub.local_models import LocalModel
from loqal.runtime import open_model


def main(words: Sequence[str]) -> int:
    """Run the command and return its exit code. Raises LoqalError."""
    parser = options.Parser(
        "loqal list",
        "List the models on this machine, of all tools.",
        "loqal list [--available] [--json]",
    )
    parser.add_argument("--available", action="store_true", help="list the published models instead")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parsed = parser.parse_args(list(words))
    if parsed.available:
        return _list_available(as_json=parsed.json)
    models = local_models.all_models()
    if parsed.json:
        terminal.print_line(json.dumps([_record(model) for model in models], ensure_ascii=False))
        return 0
    rows = [("name", "size", "quantization", "bytes", "origin")]
    rows += [(m.name, m.size or "?", m.quant or "?", amount(m.size_bytes), m.origin) for m in models]
    rows.append(_embedded_row())
    _print_table(rows, right=3)
    unfinished = [path for path in remove.unreferenced() if path.path.name.endswith(".loqal-partial")]
    for file in unfinished:
        repo = file.path.parent.parent.name.partition("--")[2].replace("--", "/", 1)
        terminal.print_note(
            f"unfinished: a file of {repo}, {amount(file.size_bytes)} so far; pull it again to continue"
        )
    return 0


def _embedded_row() -> tuple[str, str, str, str, str]:
    found = open_model.find(find.EMBEDDED)
    checkpoint = open_model.open_model(find.EMBEDDED)
    tensors = [checkpoint.tensors[name] for name in checkpoint.tensors]
    parameters = sum(math.prod(tensor.shape) for tensor in tensors)
    size_bytes = sum(path.stat().st_size for path in (found.path, found.mmproj) if path)
    formats = collections.Counter(tensor.format for tensor in tensors if len(tensor.shape) == 2)
    quant = formats.most_common(1)[0][0]
    return find.EMBEDDED, f"{parameters / 1e6:.1f}M", quant, amount(size_bytes), "embedded"


def _list_available(*, as_json: bool) -> int:
    releases = catalog.releases().values()
    if as_json:
        terminal.print_line(json.dumps([dataclasses.asdict(release) for release in releases], ensure_ascii=False))
        return 0
    rows = [("name", "parameters", "context", "thinks", "licence", "quantizations")]
    for release in releases:
        context = f"{release.context_len // 1024}K"
        if release.extended_context_len:
            context += " (1M with YaRN)"
        span = f"{len(release.files)}, {amount(release.files[0].size_bytes)} to {amount(release.files[-1].size_bytes)}"
        parameters = f"{release.parameters / 1e9:.2f} B"
        thinks = "yes" if release.thinks else "no"
        rows.append((release.name, parameters, context, thinks, release.licence, span))
    _print_table(rows, right=1)
    terminal.print_line("\nThe quantization follows the size: " + f"{catalog.FAMILY}:4b-q8_0. Sizes and files:")
    for release in releases:
        terminal.print_line(f"  {release.name:20} " + ", ".join(file.quant.lower() for file in release.files))
    return 0


def _record(model: LocalModel) -> dict[str, object]:
    etag = record_of = None
    if model.origin == "hub":
        etag = model.path.resolve().name
        record_of = provenance.find(etag)
    return {
        "name": model.name,
        "origin": model.origin,
        "path": str(model.path),
        "files": [str(path) for path in model.files],
        "mmproj": None if model.mmproj is None else str(model.mmproj),
        "size": model.size,
        "quantization": model.quant,
        "bytes": model.size_bytes,
        "digest": etag,
        "licence": record_of.licence if record_of else None,
        "from": record_of.origin if record_of else None,
    }


def _print_table(rows: Sequence[Sequence[str]], right: int) -> None:
    """Columns as wide as they must be; column ``right`` is flush right. Long tables are cut at the terminal's width."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    limit = max(80, shutil.get_terminal_size((200, 24)).columns)
    for row in rows:
        cells = [
            cell.rjust(w) if i == right else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        terminal.print_line("  ".join(cells).rstrip()[:limit])
