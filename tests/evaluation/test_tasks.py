"""The fields of a task are described where a user looks for them."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from loqal.errors import RequestError
from loqal.evaluation.tasks import JUDGES, Task, field_help, read_tasks


def test_every_field_and_judge_is_explained() -> None:
    lines = field_help().splitlines()
    assert [line.split()[0] for line in lines] == [entry.name for entry in fields(Task)]
    assert all(judge in field_help() for judge in JUDGES)


def test_a_wrong_line_is_answered_with_the_fields(tmp_path: Path) -> None:
    (tmp_path / "tasks").write_text('{"question": 1}\n')
    with pytest.raises(RequestError, match="task, messages, expected, judge"):
        read_tasks(tmp_path / "tasks")
