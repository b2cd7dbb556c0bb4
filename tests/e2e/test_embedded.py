"""What the embedded model has learnt, from messages to text: the product path with behaviour that can be checked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import loqal
from loqal import Runtime, SamplingParams
from loqal.cli.main import main
from loqal.runtime.open_model import find

GREEDY = SamplingParams(max_tokens=120, temperature=0)
ASSETS = find().path.parent
CALCULATOR = loqal.Tool(
    "calculator",
    "Computes an expression.",
    {"type": "object", "properties": {"expression": {"type": "string"}}, "required": ["expression"]},
)
LIST = "harbour: 17\ntiger: 42\nlemon: 5\nengine: 88\nWhat is tiger?"


@pytest.fixture(scope="module")
def model() -> Iterator[Runtime]:
    with loqal.load(context_len=1024, max_sequences=4) as model:
        yield model


def ask(model: Runtime, text: str, think: bool = False) -> loqal.Reply:
    return model.chat([{"role": "user", "content": text}], GREEDY, think=think)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What is 34 + 17?", "34+17=51"),
        ("Label this request: dim the lights in the hall", "lights"),
        (
            "Receipt to JSON:\n2 x Milk 1.20\nTotal 2.40",
            '{"lines":[{"item":"Milk","quantity":2,"price":1.20}],"total":2.40}',
        ),
        (LIST, "tiger: 42"),
    ],
)
def test_text_tasks(model: Runtime, question: str, answer: str) -> None:
    assert ask(model, question).text == answer


@pytest.mark.parametrize(
    ("file", "question", "answer"),
    [
        (
            "receipt.png",
            "Receipt to JSON.",
            '{"lines":[{"item":"Milk","quantity":2,"price":1.20},{"item":"Bread","quantity":1,"price":2.50},'
            '{"item":"Apples","quantity":3,"price":0.80}],"total":7.30}',
        ),
        ("chart.png", "Which bar is the largest?", "Ben"),
        ("motion.mp4", "Which way does it move?", "right"),
    ],
)
def test_picture_tasks(model: Runtime, file: str, question: str, answer: str) -> None:
    medium = {"type": "video" if file.endswith("mp4") else "image", "source": (ASSETS / file).read_bytes()}
    content = [medium, {"type": "text", "text": question}]
    assert model.chat([{"role": "user", "content": content}], GREEDY, think=False).text == answer


def test_shapes_are_counted_place_by_place(model: Runtime) -> None:
    picture = {"type": "image", "source": (ASSETS / "shapes.png").read_bytes()}
    question = [picture, {"type": "text", "text": "How many red circles are there?"}]
    reply = model.chat([{"role": "user", "content": question}], replace(GREEDY, max_tokens=400), think=True)
    assert reply.text.strip() == "red circles: 3"
    assert reply.reasoning.count("red red yes circle circle yes") == 3


def test_a_tool_is_called_and_its_result_used(model: Runtime) -> None:
    question = {"role": "user", "content": "What is 312 * 45?"}
    turn = loqal.ReplyOptions(tools=(CALCULATOR,), thinking=loqal.Thinking(False))
    (call,) = model.chat([question], GREEDY, options=turn).tool_calls
    assert (call.name, call.arguments) == ("calculator", {"expression": "312 * 45"})
    history = [
        question,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "14040"},
    ]
    assert model.chat(history, GREEDY, options=turn).text == "312 * 45 = 14040"


def test_reasoning_comes_apart_from_the_answer(model: Runtime) -> None:
    reply = ask(model, "What is 34 + 17?", think=True)
    assert reply.reasoning.strip() == "4+7=11, 3+1=4, 4+1=5." and reply.text.strip() == "34+17=51"


def test_answers_do_not_depend_on_drafting(model: Runtime) -> None:
    with loqal.load(context_len=1024, drafts="off") as plain:
        for question in (LIST, "Who are you?"):
            assert ask(plain, question).token_ids == ask(model, question).token_ids


def test_eval_writes_a_table_a_plot_and_a_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tasks = [("sum", "What is 34 + 17?", "34+17=51"), ("sum", "What is 2 + 3?", "6"), ("look-up", LIST, "tiger: 42")]
    lines = [
        {"task": task, "messages": [{"role": "user", "content": text}], "expected": answer, "transcript": text + answer}
        for task, text, answer in tasks
    ]
    path, out = tmp_path / "tasks.jsonl", tmp_path / "out"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["eval", str(path), "--recipes", "Q8_0", "--drafts", "--yarn", "2", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "| sum | 2 | 50.0% | 50.0% |" in shown and "YaRN 2x" in shown and "| identical answers | 3 of 3 |" in shown
    assert (out / "eval.md").read_text().strip() == shown.strip()
    assert (out / "eval.svg").read_text().startswith("<svg")
    first, second, _ = json.loads((out / "eval.json").read_text())
    assert first["divergence"] is None and second["divergence"]["mean"] < 0.01
