"""Judging a model on tasks with known answers: task files and models in, shares of right answers out.

A task file has one JSON object a line:

- ``task``: the name under which results are summed up
- ``messages``: as ``loqal.runtime.message_dicts.to_messages`` reads them, pictures as data URLs or paths
- ``expected``: the right answer
- ``judge``: how an answer is compared, a key of ``JUDGES`` ("exact" when absent)
- ``think``: whether to reason first (false when absent)
- ``tools``, ``call``, ``result``: tools that are offered, the call ``{"name", "arguments"}`` that must come first, and
  what the tool answers then
- ``transcript``: the whole conversation as the model reads it, for comparing predictions
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loqal.errors import RequestError
from loqal.quantize import api as quantize_api
from loqal.quantize.compare import Divergence, compare_predictions
from loqal.runtime import runtime
from loqal.runtime.message_dicts import to_messages
from loqal.runtime.open_model import find
from loqal.types.messages import Message
from loqal.types.reply import Reply
from loqal.types.sampling import SamplingParams

Model = str | os.PathLike[str] | None
_OVERLAP = 0.5  # of a box with the right one, intersection over union, as detection is usually judged
_TRANSCRIPT_TOKENS = 4096  # predictions are compared on at most this many tokens


@dataclass(frozen=True, slots=True)
class Task:
    """One question with its answer; see the top of this module."""

    task: str
    messages: Sequence[Any]
    expected: str
    judge: str = "exact"
    think: bool = False
    tools: Sequence[dict[str, Any]] | None = None
    call: dict[str, Any] | None = None
    result: str | None = None
    transcript: str | None = None


@dataclass(slots=True)
class Score:
    """What became of one task's questions."""

    asked: int = 0
    right: int = 0
    parts: dict[str, int] = field(
        default_factory=dict
    )  # right answers by a part of the answer, where a judge has parts

    @property
    def share(self) -> float:
        """Share of right answers."""
        return self.right / max(self.asked, 1)


@dataclass(slots=True)
class Run:
    """A model's results: by task, every answer in order, and what drafting did."""

    name: str
    scores: dict[str, Score] = field(default_factory=dict)
    answers: list[str] = field(default_factory=list)
    drafted: int = 0
    accepted: int = 0
    tokens: int = 0
    seconds: float = 0.0
    file_bytes: int = 0
    divergence: Divergence | None = None


def read_tasks(path: Path) -> list[Task]:
    """The tasks of a file.

    Raises:
        RequestError: the file cannot be read, or a line is no task.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(
            f"{str(path)!r} cannot be read.", str(error), "Give a file of tasks; training/make_tasks.py writes one."
        ) from error
    tasks = []
    for number, line in enumerate(lines, 1):
        try:
            tasks.append(Task(**json.loads(line)))
        except (ValueError, TypeError) as error:
            raise RequestError(
                f"Line {number} of {str(path)!r} is no task.",
                str(error),
                "See the fields in loqal/evaluation/evaluate.py.",
            ) from error
        if tasks[-1].judge not in JUDGES:
            raise RequestError(
                f"Line {number} of {str(path)!r} asks for the judge {tasks[-1].judge!r}.",
                f"There are: {', '.join(JUDGES)}.",
                "Correct the line.",
            )
    return tasks


# Judges -------------------------------------------------------------------------------------------------------------


def _exact(answer: str, expected: str) -> dict[str, bool]:
    return {"": answer == expected}


def _box(answer: str, expected: str) -> dict[str, bool]:
    """The same label, and a box that overlaps the right one by half."""
    wanted, found = json.loads(expected), _object(answer)
    box = found.get("bbox_2d")
    if not (isinstance(box, list) and len(box) == 4 and all(isinstance(x, (int, float)) for x in box)):
        return {"": False}
    a, b = wanted["bbox_2d"], box
    shared = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = sum((x[2] - x[0]) * (x[3] - x[1]) for x in (a, b))
    near = shared >= _OVERLAP * (areas - shared) and areas > 0
    return {"": near and found.get("label") == wanted["label"]}


def _receipt(answer: str, expected: str) -> dict[str, bool]:
    """Everything, the total alone, and the lines alone."""
    wanted, found = json.loads(expected), _object(answer)
    total, lines = (found.get(key) == wanted[key] for key in ("total", "lines"))
    return {"": total and lines, "total": total, "lines": lines}


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


JUDGES: dict[str, Callable[[str, str], dict[str, bool]]] = {"exact": _exact, "box": _box, "receipt": _receipt}
"""Judges by name; each gives its verdict on the whole answer under "" and on parts under their names."""


# Running ------------------------------------------------------------------------------------------------------------


def evaluate(
    model: runtime.Runtime,
    tasks: Sequence[Task],
    name: str,
    *,
    max_tokens: int = 512,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Run:
    """Ask a model all tasks, one after the other, always taking the likeliest token."""
    run = Run(name)
    # The ids of calls come from the seed: without one, answers of two runs would differ in them.
    params = SamplingParams(max_tokens=max_tokens, temperature=0, presence_penalty=0, repetition_penalty=1, seed=0)
    started = time.monotonic()
    for number, task in enumerate(tasks):
        verdict = _ask(model, task, params, run)
        score = run.scores.setdefault(task.task, Score())
        score.asked += 1
        score.right += verdict.pop("")
        for part, right in verdict.items():
            score.parts[part] = score.parts.get(part, 0) + right
        progress(number + 1, len(tasks))
    run.seconds = time.monotonic() - started
    return run


def _ask(model: runtime.Runtime, task: Task, params: SamplingParams, run: Run) -> dict[str, bool]:
    messages = to_messages(task.messages)
    reply = _reply(model, messages, task, params, run)
    if task.call is not None:
        calls = [{"name": call.name, "arguments": dict(call.arguments)} for call in reply.tool_calls]
        if calls != [task.call]:
            return {"": False}
        messages += [Message("assistant", "", tool_calls=reply.tool_calls), Message("tool", task.result or "")]
        reply = _reply(model, messages, task, params, run)
    return dict(JUDGES[task.judge](reply.text.strip(), task.expected))


def _reply(model: runtime.Runtime, messages: Iterable[Message], task: Task, params: SamplingParams, run: Run) -> Reply:
    reply = model.chat(messages, params, think=task.think, tools=task.tools)
    run.answers.append(f"{reply.reasoning}\n{reply.text}\n{reply.tool_calls}")
    run.drafted += reply.usage.drafted_tokens
    run.accepted += reply.usage.accepted_tokens
    run.tokens += reply.usage.completion_tokens
    return reply


def divergence(first: runtime.Runtime, second: runtime.Runtime, tasks: Sequence[Task]) -> Divergence | None:
    """How far the second model's predictions are from the first's along the transcripts; None if there are none."""
    ids: list[int] = []
    for task in tasks:
        if task.transcript is not None and len(ids) < _TRANSCRIPT_TOKENS:
            ids += first.tokenize(task.transcript, control=True)
    if not ids:
        return None
    return compare_predictions(first.logits, second.logits, ids[:_TRANSCRIPT_TOKENS], lambda done: None)


def evaluate_recipes(
    source: Model,
    tasks: Sequence[Task],
    recipes: Sequence[str],
    *,
    mmproj: Path | None = None,
    report: Callable[[Run], None] = lambda run: None,
    **settings: Any,
) -> list[Run]:
    """The model itself, and the files ``loqal quantize`` makes of it, each with its divergence from the first."""
    runs, found = [], find(source)
    with runtime.load(source, mmproj=mmproj, **settings) as first, tempfile.TemporaryDirectory() as folder:
        runs.append(evaluate(first, tasks, "as given"))
        runs[0].file_bytes = first.info.file_bytes
        report(runs[0])
        for recipe in recipes:
            path = Path(folder) / f"{recipe}.gguf"
            quantize_api.quantize(found.path, recipe, path)
            with runtime.load(path, mmproj=mmproj or found.mmproj, **settings) as second:
                run = evaluate(second, tasks, recipe)
                run.file_bytes, run.divergence = path.stat().st_size, divergence(first, second, tasks)
            runs.append(run)
            report(run)
    return runs
