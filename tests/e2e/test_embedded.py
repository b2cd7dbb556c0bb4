"""What the embedded model has learnt, from messages to text: the product path with behaviour that can be checked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import loqal
from loqal import Runtime, SamplingParams

GREEDY = SamplingParams(max_tokens=120, temperature=0)
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


def test_reasoning_comes_apart_from_the_answer(model: Runtime) -> None:
    reply = ask(model, "What is 34 + 17?", think=True)
    assert reply.reasoning.strip() == "4+7=11, 3+1=4, 4+1=5." and reply.text.strip() == "34+17=51"


def test_answers_do_not_depend_on_drafting(model: Runtime) -> None:
    with loqal.load(context_len=1024, drafts="off") as plain:
        for question in (LIST, "Who are you?"):
            assert ask(plain, question).token_ids == ask(model, question).token_ids
