"""Task files, judges and tables of ``loqal eval``, with a model that is scripted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loqal.cli import eval as command
from loqal.errors import RequestError
from loqal.evaluation import evaluate
from loqal.evaluation.evaluate import Run
from loqal.evaluation.tasks import JUDGES, Score, read_tasks
from loqal.types.messages import Message, ToolCall
from loqal.types.reply import FinishReason, Reply, Timings, Usage


class Scripted:
    """A model that gives prepared replies and notes what it was asked."""

    def __init__(self, *replies: str | ToolCall) -> None:
        self.replies, self.asked = list(replies), []

    def chat(self, messages: list[Message], params: Any, **options: Any) -> Reply:
        self.asked.append((list(messages), options))
        reply = self.replies.pop(0)
        calls = () if isinstance(reply, str) else (reply,)
        text = reply if isinstance(reply, str) else ""
        usage = Usage(prompt_tokens=3, completion_tokens=2, drafted_tokens=4, accepted_tokens=1)
        return Reply(text, "", (), FinishReason.STOP, usage, Timings(0, 0, 0, 0), 0, calls)


def write(path: Path, *lines: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def question(**fields: Any) -> dict[str, Any]:
    return {"task": "sums", "messages": [{"role": "user", "content": "1+1"}], "expected": "2", **fields}


def test_right_answers_are_counted_by_task(tmp_path: Path) -> None:
    tasks = read_tasks(write(tmp_path / "t", question(), question(), question(task="more", think=True)))
    model = Scripted("2", " 3", "2\n")
    run = evaluate.evaluate(model, tasks, "scripted")  # type: ignore[arg-type]
    assert {name: (score.right, score.asked) for name, score in run.scores.items()} == {"sums": (1, 2), "more": (1, 1)}
    assert [options["think"] for _, options in model.asked] == [False, False, True]
    assert (run.drafted, run.accepted, run.tokens) == (12, 3, 6)


def test_a_tool_must_be_called_rightly_and_its_result_used(tmp_path: Path) -> None:
    call = {"name": "clock", "arguments": {"city": "Rome"}}
    line = question(tools=[{"type": "function"}], call=call, result="12:00", expected="Noon.")
    tasks = read_tasks(write(tmp_path / "t", line, line, line))
    right, wrong = ToolCall("clock", {"city": "Rome"}), ToolCall("clock", {"city": "Oslo"})
    model = Scripted(right, "Noon.", wrong, right, "Midnight.")
    run = evaluate.evaluate(model, tasks, "scripted")  # type: ignore[arg-type]
    assert (run.scores["sums"].right, run.scores["sums"].asked) == (1, 3)
    assert model.asked[1][0][-1] == Message("tool", "12:00")


@pytest.mark.parametrize(
    ("judge", "answer", "expected", "verdict"),
    [
        ("box", '{"bbox_2d":[0,0,100,90],"label":"a"}', '{"bbox_2d":[0,0,100,100],"label":"a"}', {"": True}),
        ("box", '{"bbox_2d":[0,0,100,40],"label":"a"}', '{"bbox_2d":[0,0,100,100],"label":"a"}', {"": False}),
        ("box", '{"bbox_2d":[0,0,100,100],"label":"b"}', '{"bbox_2d":[0,0,100,100],"label":"a"}', {"": False}),
        ("box", "no", '{"bbox_2d":[0,0,100,100],"label":"a"}', {"": False}),
        ("box", '{"bbox_2d":[0,0,"x",100]}', '{"bbox_2d":[0,0,100,100],"label":"a"}', {"": False}),
        ("receipt", '{"lines":[1],"total":2}', '{"lines":[1],"total":2}', {"": True, "total": True, "lines": True}),
        ("receipt", '{"lines":[3],"total":2}', '{"lines":[1],"total":2}', {"": False, "total": True, "lines": False}),
        ("receipt", "[]", '{"lines":[1],"total":2}', {"": False, "total": False, "lines": False}),
    ],
)
def test_judges(judge: str, answer: str, expected: str, verdict: dict[str, bool]) -> None:
    assert JUDGES[judge](answer, expected) == verdict


@pytest.mark.parametrize("line", ["[]", '{"task": "x"}', "no", json.dumps(question(judge="kind"))])
def test_a_line_that_is_no_task_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "t"
    path.write_text(json.dumps(question()) + "\n" + line + "\n")
    with pytest.raises(RequestError, match="Line 2"):
        read_tasks(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="nowhere"):
        read_tasks(tmp_path / "nowhere")


def test_tables_and_plot_hold_every_task() -> None:
    runs = [Run(name, {"a": Score(4, right, {"total": 1}), "b": Score(2, 2)}) for name, right in (("x", 1), ("y", 3))]
    lines = command.table(runs).splitlines()
    assert lines[0] == "| task | asked | x | y |"
    assert lines[2:] == ["| a | 4 | 25.0% | 75.0% |", "| a: total | 4 | 25.0% | 25.0% |", "| b | 2 | 100.0% | 100.0% |"]
    picture = command.plot(runs)
    assert picture.startswith("<svg") and picture.count(">a<") == 1 and picture.count(">y<") == 1


def test_drafting_is_compared_answer_by_answer() -> None:
    first = Run("with", answers=["1", "2"], drafted=10, accepted=9, tokens=20, seconds=1)
    second = Run("without", answers=["1", "3"], tokens=20, seconds=2)
    text = command.drafting(first, second)
    assert "1 of 2" in text and "9 of 10" in text and "| 20 | 10 |" in text


def test_only_known_stretches() -> None:
    with pytest.raises(RequestError, match="3"):
        command._factors("2,3")
    assert command._factors("2,4") == [2, 4]
