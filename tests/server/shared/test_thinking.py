"""Every spelling of "think, and how long", for one record."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from loqal.server.shared.errors import FieldError
from loqal.server.shared.thinking import BUDGETS, ThinkingFields, thinking
from loqal.types.reply_options import Thinking

SPELLINGS = [
    "enable_thinking",
    "think",
    "reasoning.enabled",
    "chat_template_kwargs.enable_thinking",
    "chat_template_kwargs.thinking",
]
BUDGET_SPELLINGS = [
    *("thinking_budget", "thinking_budget_tokens", "thinking_token_budget", "reasoning.max_tokens"),
]


def body(path: str, value: Any) -> dict[str, Any]:
    outer, _, inner = path.partition(".")
    return {outer: {inner: value} if inner else value}


def read(*bodies: dict[str, Any]) -> Thinking:
    merged: dict[str, Any] = {}
    for one in bodies:
        for key, value in one.items():
            merged[key] = {**merged.get(key, {}), **value} if isinstance(value, dict) else value
    return thinking(ThinkingFields.model_validate(merged))


def test_nothing_said_leaves_it_to_the_template() -> None:
    assert read() == Thinking(None, None)


@pytest.mark.parametrize("path", SPELLINGS)
@pytest.mark.parametrize("value", [True, False])
def test_switches(path: str, value: bool) -> None:
    assert read(body(path, value)) == Thinking(value, None)


@pytest.mark.parametrize("path", BUDGET_SPELLINGS)
def test_budgets_switch_it_on_and_a_budget_of_nothing_off(path: str) -> None:
    assert read(body(path, 100)) == Thinking(True, 100)
    assert read(body(path, 0)) == Thinking(False, None)
    with pytest.raises(ValidationError):
        read(body(path, -1))


@pytest.mark.parametrize("path", ["reasoning_effort", "reasoning.effort"])
@pytest.mark.parametrize("effort", BUDGETS)
def test_efforts(path: str, effort: str) -> None:
    assert read(body(path, effort)) == Thinking(True, BUDGETS[effort])
    assert read(body(path, "none")) == Thinking(False, None)


def test_more_effort_is_never_fewer_tokens() -> None:
    budgets = [budget for budget in BUDGETS.values() if budget is not None]
    assert budgets == sorted(budgets) and list(BUDGETS)[-1] == "max" and BUDGETS["max"] is None


def test_ollamas_spelling_may_be_an_effort() -> None:
    assert read({"think": "low"}) == Thinking(True, BUDGETS["low"])
    with pytest.raises(ValidationError):
        read({"think": "minimal"})


def test_anthropics_spelling() -> None:
    assert read({"thinking": {"type": "enabled", "budget_tokens": 5}}) == Thinking(True, 5)
    assert read({"thinking": {"type": "adaptive"}}) == Thinking(True, None)
    assert read({"thinking": {"type": "disabled"}}) == Thinking(False, None)
    with pytest.raises(FieldError):
        read({"thinking": {"type": "disabled", "budget_tokens": 5}})


def test_spellings_that_agree_and_the_smallest_budget() -> None:
    found = read({"think": True, "thinking_budget": 900}, {"reasoning_effort": "low"}, {"thinking_token_budget": 800})
    assert found == Thinking(True, 800)
    assert read({"enable_thinking": False, "reasoning_effort": "none", "thinking_budget": 0}) == Thinking(False, None)


@pytest.mark.parametrize("path", SPELLINGS)
@pytest.mark.parametrize("other", SPELLINGS)
def test_a_contradiction_names_the_second_spelling(path: str, other: str) -> None:
    if path == other:
        return
    with pytest.raises(FieldError) as caught:
        read(body(path, True), body(other, False))
    assert caught.value.path in (path, other)
    named = str(caught.value)
    assert path in named and other in named
