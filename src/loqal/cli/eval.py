"""``loqal eval``: accuracy of a model, and of quantizations of it, on a task file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from loqal.cli import options, terminal
from loqal.cli.progress import Progress
from loqal.errors import RequestError
from loqal.evaluation import evaluate as evaluating
from loqal.evaluation.evaluate import Run
from loqal.evaluation.tasks import Task, field_help, read_tasks
from loqal.runtime import runtime

_USAGE = f"""loqal eval [options] TASKS [MODEL]

  loqal eval tasks.jsonl                                   the embedded model
  loqal eval tasks.jsonl F32.gguf --recipes Q8_0,Q4_K_M    and two quantizations of it
  loqal eval tasks.jsonl --drafts --yarn 2,4 --out report  with and without drafts, with YaRN

TASKS has one JSON object per line, with these fields:
{field_help()}
"""
_COLOURS = ("#30527a", "#4f81bd", "#8aabd6", "#c48a3a", "#b3543f", "#777777", "#999999")


def main(words: Sequence[str]) -> int:
    """Run the command and return its exit code. Raises LoqalError."""
    parsed = _parser().parse_args(list(words))
    tasks = read_tasks(Path(parsed.tasks))
    mmproj = None if parsed.mmproj is None else Path(parsed.mmproj)
    settings: dict[str, Any] = {"threads": parsed.threads}
    recipes = [word for word in parsed.recipes.split(",") if word]
    sections: list[str] = []

    def plain(run: Run) -> None:
        terminal.print_note(f"{run.name}: {_mean(run):.1%} of the answers are right, {run.seconds:.0f} s")

    runs = evaluating.evaluate_recipes(parsed.model, tasks, recipes, mmproj=mmproj, report=plain, **settings)
    sections.append(table(runs))
    others: list[Run] = []
    for factor in _factors(parsed.yarn):
        others.append(_one(parsed.model, tasks, f"YaRN {factor}x", mmproj, settings | {"yarn": factor}))
    if others:
        sections.append(table([runs[0], *others]))
    if parsed.drafts:
        with_drafts = _one(parsed.model, tasks, "with drafts", mmproj, settings | {"drafts": "auto"})
        without = _one(parsed.model, tasks, "without drafts", mmproj, settings | {"drafts": "off"})
        sections.append(drafting(with_drafts, without))
    text = "\n\n".join(sections)
    terminal.print_line(text)
    if parsed.out is not None:
        _write(Path(parsed.out), text, [*runs, *others])
    return 0


def _parser() -> options.Parser:
    parser = options.Parser("loqal eval", "Measure the accuracy of a model on a task file.", _USAGE)
    parser.add_argument("tasks", metavar="TASKS")
    parser.add_argument("model", nargs="?", metavar="MODEL", help="a file, a folder, or a name (default: the embedded)")
    parser.add_argument("--mmproj", metavar="FILE", help="the separate vision tower of a GGUF model")
    parser.add_argument("--recipes", default="", metavar="LIST", help="quantization types to compare, comma-separated")
    parser.add_argument(
        "--drafts", action="store_true", help="compare with and without drafts: answers, acceptance rate, speed"
    )
    parser.add_argument("--yarn", default="", metavar="LIST", help="also with YaRN factors 2, 4 or 2,4")
    parser.add_argument("--threads", type=int, metavar="N", help="default: the cores this process may use")
    parser.add_argument("--out", metavar="FOLDER", help="write tables, a plot and JSON to this folder")
    return parser


def _factors(text: str) -> list[int]:
    if any(word not in ("", "2", "4") for word in text.split(",")):
        raise RequestError(f"--yarn is {text!r}.", "YaRN factors are 2 and 4.", "Write 2, 4, or 2,4.")
    return [int(word) for word in text.split(",") if word]


def _one(model: str | None, tasks: Sequence[Task], name: str, mmproj: Path | None, settings: dict[str, Any]) -> Run:
    with runtime.load(model, mmproj=mmproj, **settings) as loaded, Progress(name, len(tasks), "tasks") as line:
        return evaluating.evaluate(loaded, tasks, name, progress=line.update_of)


def _mean(run: Run) -> float:
    return sum(score.right for score in run.scores.values()) / max(1, sum(s.asked for s in run.scores.values()))


def table(runs: Sequence[Run]) -> str:
    """Shares of right answers, a row for each task and a column for each run, as Markdown."""
    rows = [["task", "asked", *(run.name for run in runs)]]
    for task, score in runs[0].scores.items():
        rows.append([task, str(score.asked), *(f"{run.scores[task].share:.1%}" for run in runs)])
        for part in score.parts:
            shares = (run.scores[task].parts[part] / run.scores[task].asked for run in runs)
            rows.append([f"{task}: {part}", str(score.asked), *(f"{share:.1%}" for share in shares)])
    if any(run.file_bytes for run in runs):
        rows.append(["size, MB", "", *(f"{run.file_bytes / 1e6:.2f}" if run.file_bytes else "" for run in runs)])
    found = [run.divergence for run in runs]
    if any(found):
        rows.append(["divergence, mean nats", "", *("" if d is None else f"{d.mean:.5f}" for d in found)])
        rows.append(["divergence, 99 % below", "", *("" if d is None else f"{d.percentile_99:.4f}" for d in found)])
        rows.append(["same most likely token", "", *("" if d is None else f"{d.same_top:.2%}" for d in found)])
    return _markdown(rows)


def drafting(with_drafts: Run, without: Run) -> str:
    """What drafting changes: no answer, and how many tokens come in a second."""
    same = sum(a == b for a, b in zip(with_drafts.answers, without.answers, strict=True))
    rows = [["drafting", "with", "without"]]
    rows.append(["identical answers", f"{same} of {len(without.answers)}", ""])
    rows.append(["drafted tokens accepted", f"{with_drafts.accepted} of {with_drafts.drafted}", ""])
    rows.append(["tokens a second", *(f"{run.tokens / max(run.seconds, 1e-9):.0f}" for run in (with_drafts, without))])
    return _markdown(rows)


def _markdown(rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def plot(runs: Sequence[Run]) -> str:
    """The table as bars, an SVG picture."""
    tasks, bar, gap = list(runs[0].scores), 7, 8
    group = bar * len(runs) + gap
    left, top, width = 130, 30, 420
    height = top + group * len(tasks) + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 60}" height="{height}" '
        'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="white"/>'
    ]
    for index, run in enumerate(runs):
        x = left + index * 75
        parts.append(f'<rect x="{x}" y="8" width="9" height="9" fill="{_COLOURS[index % len(_COLOURS)]}"/>')
        parts.append(f'<text x="{x + 12}" y="16">{escape(run.name)}</text>')
    for place, task in enumerate(tasks):
        y = top + place * group
        parts.append(f'<text x="{left - 6}" y="{y + group / 2}" text-anchor="end">{escape(task)}</text>')
        for index, run in enumerate(runs):
            share = run.scores[task].share
            parts.append(
                f'<rect x="{left}" y="{y + index * bar}" width="{share * width:.1f}" height="{bar - 1}" '
                f'fill="{_COLOURS[index % len(_COLOURS)]}"/>'
            )
        parts.append(f'<text x="{left + width + 4}" y="{y + group / 2}">{runs[0].scores[task].share:.0%}</text>')
    return "\n".join([*parts, "</svg>\n"])


def _write(folder: Path, text: str, runs: Sequence[Run]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "eval.md").write_text(text + "\n")
    (folder / "eval.svg").write_text(plot(runs))
    records = [dataclasses.asdict(run) for run in runs]
    for record in records:
        del record["answers"]
    (folder / "eval.json").write_text(json.dumps(records, indent=1) + "\n")
    terminal.print_note(f"Wrote eval.md, eval.svg and eval.json to {folder}.")
