"""Thinking switches and budgets: every API's field for them, read into one ``Thinking`` record."""

from __future__ import annotations

from typing import Literal

from loqal.server.shared.body import Body
from loqal.server.shared.errors import FieldError
from loqal.server.shared.fields import rejected, supported
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
"""Maximum number of reasoning tokens of each effort; None: unlimited."""


class ThinkingSwitch(Body):
    """Whether to think, and the budget."""

    type: Literal["enabled", "disabled", "adaptive"] = supported(
        "whether to think; adaptive is the same as enabled", ...
    )
    budget_tokens: int | None = supported("maximum number of reasoning tokens", ge=0)


class Reasoning(Body):
    """Reasoning effort and budget."""

    effort: Effort | None = supported("the same as reasoning_effort", examples=["low"])
    max_tokens: int | None = supported("maximum number of reasoning tokens; 0 disables thinking", ge=0)
    enabled: bool | None = supported("whether to think")
    exclude: bool | None = rejected("the reasoning is always returned", neutral=(False,), examples=[True])


class TemplateSwitches(Body):
    """Arguments of the chat template."""

    enable_thinking: bool | None = supported("whether to think")
    thinking: bool | None = supported("whether to think")


class ThinkingFields(Body):
    """The fields that control thinking. Several may be given as long as they agree."""

    reasoning_effort: Effort | None = supported(
        "none disables thinking; the others are token budgets from 256 (minimal) to unlimited (max)", examples=["low"]
    )
    reasoning: Reasoning | None = supported("reasoning effort and budget")
    thinking: ThinkingSwitch | None = supported("whether to think, and the budget (Anthropic's field)")
    think: bool | Literal["low", "medium", "high", "max"] | None = supported("whether to think (Ollama's field)")
    enable_thinking: bool | None = supported("whether to think")
    chat_template_kwargs: TemplateSwitches | None = supported("arguments of the chat template")
    thinking_budget: int | None = supported("maximum number of reasoning tokens; 0 disables thinking", ge=0)
    thinking_budget_tokens: int | None = supported("the same as thinking_budget", ge=0)
    thinking_token_budget: int | None = supported("the same as thinking_budget", ge=0)


def thinking(body: ThinkingFields) -> Thinking:
    """The thinking options of a request. Raises FieldError when two fields contradict each other."""
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
            first, effect = switches[0][0], "disables" if value else "enables"
            raise FieldError(path, f"It contradicts {first}, which {effect} thinking.", "Send one of the two fields.")
    return switches[0][1] if switches else None


def _smallest(budgets: list[tuple[str, int]]) -> int | None:
    positive = [value for _, value in budgets if value > 0]
    return min(positive) if positive else None
