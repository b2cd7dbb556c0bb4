"""From a turn as it was asked for to the rules of its automaton. What cannot be followed is refused at once."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from loqal.chat.constraints import grammar
from loqal.chat.constraints.reasoning_budget import ReasoningBudget, budget_of, phrase_tokens
from loqal.chat.constraints.reply_automaton import Matcher, ReplyConstraint, Rules
from loqal.chat.template.segments import CALL_OPEN, THINK_CLOSE
from loqal.chat.tokens.tokenizer import Tokenizer
from loqal.errors import RequestError
from loqal.types.reply_options import AnswerFormat, Grammar, JsonSchema, NamedTool, ReplyOptions, Tool

if TYPE_CHECKING:
    from loqal.chat.constraints.call_grammar import CallGrammar
    from loqal.chat.constraints.compiler import Constraints

_TOOL_NAME = re.compile(r"[^<>\n]+")

_CLOSERS = ('"', "\n</parameter>\n", "]", "}", ">", ")")  # what may bring a form that goes in circles further


@dataclass(frozen=True, slots=True)
class ReplyConstraints:
    """Makes the constraint of every reply to a request. ``warnings`` name what was asked for and is not held."""

    make: Callable[[], ReplyConstraint | None]
    warnings: tuple[str, ...] = ()

    def __call__(self) -> ReplyConstraint | None:
        """The constraint of one reply; None where it is free."""
        return self.make()


class ConstraintBuilder:
    """Makes guides for the turns of one model.

    Args:
        end_ids: ids that end its replies; None for those of the vocabulary.
    """

    def __init__(self, tokenizer: Tokenizer, end_ids: frozenset[int] | None = None) -> None:
        self._tokenizer = tokenizer
        known = tokenizer.eos_ids if end_ids is None else end_ids
        self.end_ids = frozenset(token_id for token_id in known if 0 <= token_id < tokenizer.vocab_len)
        ids = tokenizer.special_ids
        think_close = ids.get(THINK_CLOSE, -1)
        self._words = phrase_tokens(tokenizer, think_close)
        self._plain = Rules(
            ends=self.end_ids,
            num_words=-(-tokenizer.vocab_len // 32),
            call_open=ids.get(CALL_OPEN, -1),
            think_close=think_close,
            banned_thoughts=tuple(sorted(self.end_ids)),
            closers=tuple(tuple(tokenizer.encode_text(text)) for text in _CLOSERS),
        )

    def guides(
        self, turn: ReplyOptions, *, thinking: bool, room: int, said: str = "", free_calls: bool = True
    ) -> ReplyConstraints:
        """What makes the guide of each reply to a request.

        Args:
            thinking: the prompt ends inside reasoning.
            room: most tokens of the reply.
            said: the beginning of the answer, when the prompt has it already.
            free_calls: where no tools are offered, the reply may hold the tag of a call.

        Raises:
            RequestError: something cannot be followed; of a schema, the JSON pointer is named.
        """
        warnings: list[str] = []
        rules = self._rules(turn, said, warnings, bans_calls=not free_calls)
        if thinking and rules.think_close >= 0:
            budget = budget_of(turn.thinking.budget_tokens, room)
            return ReplyConstraints(
                lambda: ReplyConstraint(rules, ReasoningBudget(self._tokenizer, self._words, budget)), tuple(warnings)
            )
        if rules.say_anything:
            return ReplyConstraints(lambda: None, tuple(warnings))
        return ReplyConstraints(lambda: ReplyConstraint(rules, None), tuple(warnings))

    @functools.cached_property
    def _constraints(self) -> Constraints:
        if not self.end_ids:
            raise RequestError(
                "The reply is to have a form.", "The vocabulary has no token that ends it.", "Ask without a form."
            )
        # Imported where it is used: most starts never need the grammar library, and loading it takes a while.
        from loqal.chat.constraints.compiler import Constraints

        return Constraints(self._tokenizer, self.end_ids)

    def raw(self, answer: AnswerFormat | None) -> ReplyConstraints:
        """The same for a raw prompt. Raises RequestError."""
        return self.guides(ReplyOptions(answer=answer), thinking=False, room=1)

    def _rules(self, turn: ReplyOptions, said: str, warnings: list[str], *, bans_calls: bool) -> Rules:
        _check(turn)
        offered = self._offered(turn)
        rules = self._plain
        if (turn.tools or bans_calls) and rules.call_open >= 0:
            if not offered.tools:
                banned = (*rules.banned_thoughts, rules.call_open)
                rules = replace(rules, banned_thoughts=banned, banned_answers=(rules.call_open,))
        elif offered.tools and offered.tool_choice != "auto":
            raise RequestError("tool_choice asks for a call.", "The vocabulary has no tags of calls.", "Leave it out.")
        calls = self._calls(turn, offered, warnings) if offered.tools and rules.call_open >= 0 else None
        start, extra, answer = self._start(offered, calls is not None, warnings)
        if start is None:
            if calls is None:
                return rules
            text = grammar.whole(_calls_rule(offered.parallel_tool_calls), calls.rules, None)
            watch = self._constraints.watch(calls.json_arguments, is_json=False, call_open=rules.call_open)
            return replace(rules, calls=self._constraints.compile(text, "The tools", watch))
        text = grammar.whole(start, [*extra, *(calls.rules if calls is not None else ())], answer)
        watch = self._constraints.watch(
            {} if calls is None else calls.json_arguments,
            is_json=isinstance(turn.answer, JsonSchema),
            call_open=rules.call_open,
        )
        matcher = self._constraints.compile(text, "The answer's form" if turn.answer else "The tools", watch)
        gap = tuple(self._tokenizer.encode_text("\n\n"))
        may_call = calls is not None
        return replace(rules, answer=self._after(matcher, said), gap=gap, banned_answers=(), answer_may_call=may_call)

    def _offered(self, turn: ReplyOptions) -> ReplyOptions:
        """The turn with the tools that may be called alone."""
        choice = turn.tool_choice
        if isinstance(choice, NamedTool):
            named = tuple(tool for tool in turn.tools if tool.name == choice.name)
            if not named:
                raise _choice_without_tool(f"the tool {choice.name!r}")
            return replace(turn, tools=named, parallel_tool_calls=False)
        if choice == "required" and not turn.tools:
            raise _choice_without_tool("a tool")
        return replace(turn, tools=()) if choice == "none" else turn

    def _calls(self, turn: ReplyOptions, offered: ReplyOptions, warnings: list[str]) -> CallGrammar:
        # Imported where they are used, as most requests need neither.
        from loqal.chat.constraints.call_grammar import CallGrammar
        from loqal.chat.constraints.json_schema import check_size

        constraints = self._constraints
        paths = {tool.name: tool.path or f"tools[{index}].parameters" for index, tool in enumerate(turn.tools)}
        for tool in offered.tools:
            if tool.parameters and tool.strict is not False:
                check_size(tool.parameters, paths[tool.name])
        found = CallGrammar(
            offered.tools,
            [paths[tool.name] for tool in offered.tools],
            faults=constraints.schema_fault,
            is_valid=constraints.is_valid,
        )
        warnings += found.warnings
        return found

    def _start(
        self, turn: ReplyOptions, can_call: bool, warnings: list[str]
    ) -> tuple[str | None, list[str], AnswerFormat | None]:
        """What the answer consists of, further rules, and its form; None when it is free until a call begins."""
        calls = _calls_rule(turn.parallel_tool_calls)
        if can_call and turn.tool_choice != "auto":
            return calls, [], turn.answer
        if turn.answer is None:
            return None, [], None
        answer = turn.answer
        if isinstance(answer, JsonSchema) and answer.schema is not None:
            from loqal.chat.constraints.json_schema import hold

            fault = self._constraints.schema_fault
            held = hold(answer.schema, answer.path, fault, strict=answer.strict)
            warnings += held.warnings
            answer = replace(answer, schema=held.schema)
        if isinstance(answer, Grammar):
            answer = replace(answer, text=self._constraints.as_lark(answer.text))
            self._constraints.compile(answer.text, "answer.text")
        rule = f"answer: {grammar.answer_rule(answer)}"
        return ("answer | " + calls if can_call else "answer"), [rule], answer

    def _after(self, matcher: Matcher, said: str) -> Matcher:
        matcher = matcher.copy()
        if said and not matcher.accepts(self._tokenizer.encode_text(said)):
            raise RequestError(
                "The answer that is to be continued does not have the form it must have.",
                "No continuation of it could have that form.",
                "Change the last message, or the form.",
            )
        return matcher


def _check(turn: ReplyOptions) -> None:
    """Raise RequestError where a turn holds what cannot be meant."""
    budget = turn.thinking.budget_tokens
    if budget is not None and (isinstance(budget, bool) or not isinstance(budget, int) or budget < 0):
        raise RequestError(
            f"thinking.budget_tokens is {budget!r}.", "It must be a whole number from 0.", "Choose a number of tokens."
        )
    for index, tool in enumerate(turn.tools):
        if tool.parameters is not None and not isinstance(tool.parameters, Mapping):
            raise RequestError(
                f"tools[{index}].parameters is {type(tool.parameters).__name__}.",
                "It must be a JSON schema, an object.",
                'Write {"type": "object", "properties": ...}.',
            )
    _check_names(turn.tools)


def _check_names(tools: Sequence[Tool]) -> None:
    """Raise RequestError when a tool cannot be called in the family's form, or two have one name."""
    names = [tool.name for tool in tools]
    for index, name in enumerate(names):
        if not _TOOL_NAME.fullmatch(name) or name != name.strip() or name in names[:index]:
            raise RequestError(
                f"tools[{index}].name is {name!r}.",
                "Names must differ, and have no line end, angle bracket or white space around them.",
                "Rename the tool.",
            )


def _calls_rule(parallel: bool) -> str:
    """One call, or one or more."""
    return "call (ws? call)*" if parallel else "call"


def _choice_without_tool(what: str) -> RequestError:
    return RequestError(
        f"tool_choice asks for {what}.", "The list of tools does not have it.", "Offer it, or ask for none."
    )
