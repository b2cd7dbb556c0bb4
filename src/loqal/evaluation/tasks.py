"""Tasks with known answers: reading a task file, and scoring answers. Nothing runs here.

A task file has one JSON object a line, with the fields of ``Task``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from loqal.errors import RequestError

_OVERLAP = 0.5  # of a box with the right one, intersection over union, as detection is usually judged


@dataclass(frozen=True, slots=True)
class Task:
    """One question with its answer. Each field's metadata has its help text."""

    task: str = field(metadata={"help": "the name under which results are summed up"})
    messages: Sequence[Any] = field(
        metadata={"help": "chat messages as of the OpenAI API; pictures are data URLs or paths"}
    )
    expected: str = field(metadata={"help": "the right answer"})
    judge: str = field(default="exact", metadata={"help": "how an answer is compared: exact, box or receipt"})
    think: bool = field(default=False, metadata={"help": "whether to think first"})
    tools: Sequence[dict[str, Any]] | None = field(default=None, metadata={"help": "tools that are offered"})
    call: dict[str, Any] | None = field(
        default=None, metadata={"help": 'the tool call {"name", "arguments"} that must come first'}
    )
    result: str | None = field(default=None, metadata={"help": "what the tool answers to that call"})
    transcript: str | None = field(
        default=None, metadata={"help": "the conversation as the model reads it, to compare predictions"}
    )


def field_help() -> str:
    """The fields of a task, a line each."""
    return "\n".join(
        f"  {entry.name:11} {entry.metadata['help']}{'' if entry.default is MISSING else ' (optional)'}"
        for entry in fields(Task)
    )


@dataclass(slots=True)
class Score:
    """What became of one task's questions."""

    asked: int = 0
    right: int = 0
    parts: dict[str, int] = field(default_factory=dict)  # right answers by a part, where a judge has parts

    @property
    def share(self) -> float:
        """Share of right answers."""
        return self.right / max(self.asked, 1)


def read_tasks(path: Path) -> list[Task]:
    """The tasks of a file.

    Raises:
        RequestError: the file cannot be read, or a line is not a task.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(
            f"{str(path)!r} cannot be read.", f"{error}.", "Give a task file; loqal eval --help describes its format."
        ) from error
    tasks = []
    for number, line in enumerate(lines, 1):
        try:
            tasks.append(Task(**json.loads(line)))
        except (ValueError, TypeError) as error:
            raise RequestError(
                f"Line {number} of {str(path)!r} is not a task.",
                f"{error}.",
                f"Write a JSON object with the fields {', '.join(entry.name for entry in fields(Task))}.",
            ) from error
        if tasks[-1].judge not in JUDGES:
            raise RequestError(
                f"Line {number} of {str(path)!r} asks for the judge {tasks[-1].judge!r}.",
                f"The judges are {', '.join(JUDGES)}.",
                "Choose one of them.",
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
