"""Every spelling of "think, and how long", for one record. Fields of all dialects are accepted in all of them."""

from __future__ import annotations

from typing import Literal

from loqal.server.shared.errors import FieldError
from loqal.server.shared.fields import rejected, supported
from loqal.server.shared.generation_request import Body
from loqal.types.reply_options import Thinking

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]

BUDGETS: dict[str, int | None] = {
    "minimal": 256,
    "low": 1024,
    "medium": 4096,
    "high": 16384,
    "xhigh": 32768,
    "max": None,
}
"""Tokens of reasoning each effort is worth; None: as many as there is room for."""


class ThinkingSwitch(Body):
    """Whether and how long to reason."""

    type: Literal["enabled", "disabled", "adaptive"] = supported("whether to reason; adaptive is enabled", ...)
    budget_tokens: int | None = supported("most tokens of reasoning", ge=0)


class Reasoning(Body):
    """How long to reason."""

    effort: Effort | None = supported("the same as reasoning_effort", examples=["low"])
    max_tokens: int | None = supported("most tokens of reasoning; 0: none", ge=0)
    enabled: bool | None = supported("whether to reason")
    exclude: bool | None = rejected("reasoning is always shown", neutral=(False,), examples=[True])


class TemplateSwitches(Body):
    """Switches of the model's template."""

    enable_thinking: bool | None = supported("whether to reason")
    thinking: bool | None = supported("whether to reason")


class ThinkingFields(Body):
    """The spellings a body may use. Several may be given as long as they agree."""

    reasoning_effort: Effort | None = supported(
        "none: no reasoning; else how many tokens of it, from 256 (minimal) to no limit (max)", examples=["low"]
    )
    reasoning: Reasoning | None = supported("how long to reason")
    thinking: ThinkingSwitch | None = supported("whether and how long to reason (Anthropic's spelling)")
    think: bool | Literal["low", "medium", "high", "max"] | None = supported("whether to reason (Ollama's spelling)")
    enable_thinking: bool | None = supported("whether to reason")
    chat_template_kwargs: TemplateSwitches | None = supported("switches of the model's template")
    thinking_budget: int | None = supported("most tokens of reasoning; 0: none", ge=0)
    thinking_budget_tokens: int | None = supported("the same as thinking_budget", ge=0)
    thinking_token_budget: int | None = supported("the same as thinking_budget", ge=0)


def thinking(body: ThinkingFields) -> Thinking:
    """The one setting. Raises FieldError when two spellings contradict each other."""
    switches: list[tuple[str, bool]] = []
    budgets: list[tuple[str, int]] = []

    def effort(path: str, value: str) -> None:
        switches.append((path, value != "none"))
        budget = BUDGETS.get(value)
        if budget is not None:
            budgets.append((path, budget))

    def budget(path: str, value: int | None) -> None:
        if value is not None:
            switches.append((path, value > 0))
            budgets.append((path, value))

    def switch(path: str, value: bool | None) -> None:
        if value is not None:
            switches.append((path, value))

    if body.reasoning_effort is not None:
        effort("reasoning_effort", body.reasoning_effort)
    if body.reasoning is not None:
        if body.reasoning.effort is not None:
            effort("reasoning.effort", body.reasoning.effort)
        budget("reasoning.max_tokens", body.reasoning.max_tokens)
        switch("reasoning.enabled", body.reasoning.enabled)
    if body.thinking is not None:
        switch("thinking.type", body.thinking.type != "disabled")
        budget("thinking.budget_tokens", body.thinking.budget_tokens)
    if isinstance(body.think, str):
        effort("think", body.think)
    else:
        switch("think", body.think)
    switch("enable_thinking", body.enable_thinking)
    if body.chat_template_kwargs is not None:
        switch("chat_template_kwargs.enable_thinking", body.chat_template_kwargs.enable_thinking)
        switch("chat_template_kwargs.thinking", body.chat_template_kwargs.thinking)
    for name in ("thinking_budget", "thinking_budget_tokens", "thinking_token_budget"):
        budget(name, getattr(body, name))
    return Thinking(_agreed(switches), _smallest(budgets))


def _agreed(switches: list[tuple[str, bool]]) -> bool | None:
    for path, value in switches[1:]:
        if value != switches[0][1]:
            first = switches[0][0]
            raise FieldError(path, f"It contradicts {first}, which switches thinking {'on' if not value else 'off'}.")
    return switches[0][1] if switches else None


def _smallest(budgets: list[tuple[str, int]]) -> int | None:
    positive = [value for _, value in budgets if value > 0]
    return min(positive) if positive else None
