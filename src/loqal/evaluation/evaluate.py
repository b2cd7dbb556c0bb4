"""Runs a model on tasks with known answers, and compares quantizations and settings of it."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loqal.evaluation.tasks import JUDGES, Score, Task
from loqal.quantize import api as quantize_api
from loqal.quantize.compare import Divergence, compare_predictions
from loqal.runtime import runtime
from loqal.runtime.message_dicts import to_messages
from loqal.runtime.open_model import find
from loqal.types.messages import Message
from loqal.types.reply import Reply
from loqal.types.sampling import SamplingParams

Model = str | os.PathLike[str] | None
_TRANSCRIPT_TOKENS = 4096  # predictions are compared on at most this many tokens


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


def evaluate(
    model: runtime.Runtime,
    tasks: Sequence[Task],
    name: str,
    *,
    max_tokens: int = 512,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Run:
    """Ask a model all tasks, one after the other, always taking the most likely token."""
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
