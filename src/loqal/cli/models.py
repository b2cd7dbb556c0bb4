"""The verbs about models on this machine: ``list``, ``import``, ``rm``, ``gc``, ``verify``, ``repair``."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path

from loqal.cli import options, terminal
from loqal.cli.progress import Progress, amount
from loqal.errors import CheckpointError
from loqal.hub import catalog, find, local_models, provenance, remove, verify
from loqal.hub.fetch import repair as repair_model
from loqal.hub.local_models import LocalModel
from loqal.runtime import open_model
from loqal.weights.load import open_checkpoint


def list_models(words: Sequence[str]) -> int:
    """``loqal list``."""
    parser = options.Parser(
        "loqal list",
        "Show the models on this machine, whichever tool fetched them.",
        "loqal list [--available] [--json]",
    )
    parser.add_argument("--available", action="store_true", help="show what is published instead")
    parser.add_argument("--json", action="store_true", help="write one JSON record")
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
    checkpoint = open_checkpoint(found.path, mmproj=found.mmproj)
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
    terminal.print_line("\nA quantization is named behind the size: " + f"{catalog.FAMILY}:4b-q8_0. Sizes and files:")
    for release in releases:
        terminal.print_line(f"  {release.name:20} " + ", ".join(file.quant.lower() for file in release.files))
    return 0


def import_model(words: Sequence[str]) -> int:
    """``loqal import``."""
    parser = options.Parser(
        "loqal import",
        "Give a model that lies anywhere a name. Nothing is copied.",
        "loqal import PATH [--name NAME]\n\nModels of Ollama, LM Studio, llama.cpp and the hub's cache need no import: "
        "see loqal list.",
    )
    parser.add_argument("path", metavar="PATH", help="a GGUF file, or a folder of one model")
    parser.add_argument("--name", metavar="NAME", help="default: as the file is called")
    parsed = parser.parse_args(list(words))
    model = local_models.import_model(Path(parsed.path), parsed.name)
    terminal.print_line(f"{model.name}  {amount(model.size_bytes)}, linked")
    return 0


def rm(words: Sequence[str]) -> int:
    """``loqal rm``."""
    parser = options.Parser(
        "loqal rm", "Delete a model; of an imported one only the links.", "loqal rm [--foreign] NAME"
    )
    parser.add_argument("name", metavar="NAME", help="as loqal list shows it")
    parser.add_argument("--foreign", action="store_true", help="even if another tool owns the files")
    parsed = parser.parse_args(list(words))
    model = _local(parsed.name)
    for path in remove.remove(model, foreign=parsed.foreign):
        terminal.print_line(f"deleted {path}")
    return 0


def gc(words: Sequence[str]) -> int:
    """``loqal gc``."""
    parser = options.Parser(
        "loqal gc", "Delete what nothing needs: unfinished downloads, blobs without a name.", "loqal gc [--dry-run]"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would go")
    parsed = parser.parse_args(list(words))
    found = list(remove.unreferenced())
    for file in found:
        terminal.print_line(f"{amount(file.size_bytes):>10}  {file.path}: {file.why}")
        if not parsed.dry_run:
            with contextlib.suppress(FileNotFoundError):
                file.path.unlink()
    verb = "could be" if parsed.dry_run else "were"
    terminal.print_line(f"{amount(sum(file.size_bytes for file in found))} {verb} given back")
    return 0


def verify_model(words: Sequence[str]) -> int:
    """``loqal verify``: exit code 3 when a file is damaged or missing."""
    parser = options.Parser("loqal verify", "Compare a model's files with their digests.", "loqal verify NAME")
    parser.add_argument("name", metavar="NAME", help="as loqal list shows it")
    parsed = parser.parse_args(list(words))
    model = _local(parsed.name)
    verdicts = _verified(model)
    for verdict in verdicts:
        terminal.print_line(_line(verdict))
    return 3 if any(verdict.state in ("damaged", "missing") for verdict in verdicts) else 0


def repair(words: Sequence[str]) -> int:
    """``loqal repair``."""
    parser = options.Parser(
        "loqal repair", "Fetch again what is damaged of a model's files, and no more.", "loqal repair NAME"
    )
    parser.add_argument("name", metavar="NAME", help="as loqal list shows it")
    parsed = parser.parse_args(list(words))
    model = _local(parsed.name)
    verdicts = _verified(model)
    with contextlib.ExitStack() as stack:
        lines: dict[str, Progress] = {}

        def show(path: str, done: int, total: int) -> None:
            if path not in lines:
                stack.close()
                lines[path] = stack.enter_context(Progress(path.rpartition("/")[2], total))
            lines[path].update(done)

        count = repair_model(model, verdicts, show)
    terminal.print_line(f"{count} files were repaired." if count else "Nothing is damaged.")
    return 0


def _verified(model: LocalModel) -> list[verify.Verdict]:
    return verify.verify(model, lambda path: terminal.print_note(f"reading {path}"))


def _line(verdict: verify.Verdict) -> str:
    damaged = f", {amount(verdict.damaged_bytes)} of it to fetch again" if verdict.damaged_bytes else ""
    return f"{verdict.state:8} {verdict.path}: {verdict.why}{damaged}"


def _local(name: str) -> LocalModel:
    if Path(name).exists():
        raise CheckpointError(f"{name} is a path.", "This command takes names.", "See loqal list, or loqal import.")
    return open_model.find_named(name)


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
