"""Grammars of answers, as text and as the grammar library reads them."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loqal.chat.constraints.grammar import answer_rule, json_rule, literal, slashed, whole
from loqal.errors import RequestError
from loqal.types.reply_options import Grammar, JsonSchema, OneOf, Regex


@given(st.text(alphabet='aä"\\/\n\t{}\u2028🦊'))
def test_a_literal_means_its_text(text: str) -> None:
    assert json.loads(literal(text)) == text


@pytest.mark.parametrize(
    ("pattern", "written"),
    [("a/b", r"a\/b"), (r"a\/b", r"a\/b"), ("a\nb", r"a\nb"), (r"\\/", r"\\\/"), ("a\\", "a\\"), ("", "")],
)
def test_slashes_and_line_ends_of_expressions(pattern: str, written: str) -> None:
    assert slashed(pattern) == written


@given(st.text(alphabet="ab/\\\n."))
def test_an_expression_between_slashes_ends_at_the_last_one(pattern: str) -> None:
    text = slashed(pattern)
    assert "\n" not in text or "\\\n" in pattern
    assert re.fullmatch(r"(?:\\.|[^\\/])*\\?", text, re.DOTALL)  # every slash is escaped
    assert slashed(text) == text


def test_the_rule_of_each_form() -> None:
    assert answer_rule(Regex("a/b")) == r"/a\/b/"
    assert answer_rule(OneOf(("a", '"', "a"))) == '"a" | "\\""'
    assert answer_rule(Grammar("start: x")) == "@answer"
    schema = json.loads(answer_rule(JsonSchema({"type": "integer"})).removeprefix("%json "))
    assert schema["type"] == "integer" and "x-guidance" in schema
    assert json.loads(answer_rule(JsonSchema()).removeprefix("%json "))["type"] == "object"
    assert json.loads(json_rule(False).removeprefix("%json "))["allOf"] == [False]


@pytest.mark.parametrize("choices", [(), ("",), ("a", ""), tuple(map(str, range(10_001)))])
def test_choices_that_are_none(choices: tuple[str, ...]) -> None:
    with pytest.raises(RequestError):
        answer_rule(OneOf(choices))


def test_the_most_choices() -> None:
    assert answer_rule(OneOf(tuple(map(str, range(10_000))))).count("|") == 9_999


def test_a_whole_grammar() -> None:
    assert whole("answer", ["answer: x"], None) == "start: answer\nanswer: x"
    both = json.loads(whole("answer", ["answer: @answer"], Grammar('start: "x"')))["grammars"]
    assert both[0] == {"lark_grammar": "start: answer\nanswer: @answer"}
    assert both[1] == {"name": "answer", "lark_grammar": 'start: "x"'}
