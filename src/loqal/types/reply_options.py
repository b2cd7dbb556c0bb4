"""Reply options: thinking, tools, structured output; the same records for every dialect of the server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """The answer is JSON that a schema accepts; without a schema, any JSON object.

    ``strict`` refuses a schema that cannot be held in every respect; otherwise what is not held is left out, and the
    reply's warnings say so. ``path`` is where the caller wrote the schema, for errors and warnings.
    """

    schema: Mapping[str, Any] | bool | None = None
    strict: bool | None = None
    path: str = field(default="answer.schema", compare=False)


@dataclass(frozen=True, slots=True)
class Regex:
    """The whole answer matches a regular expression."""

    pattern: str


@dataclass(frozen=True, slots=True)
class Grammar:
    """The answer is a sentence of a context-free grammar, in Lark's notation."""

    text: str


@dataclass(frozen=True, slots=True)
class OneOf:
    """The answer is one of these texts."""

    choices: tuple[str, ...]


AnswerFormat = JsonSchema | Regex | Grammar | OneOf


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the model may call.

    ``parameters`` is the JSON schema of its arguments. They are held to it as far as it can be held, and the reply's
    warnings name the rest; ``strict`` refuses a schema with such a rest, and False lifts the schema altogether.
    ``path`` is where the caller wrote the schema, for errors and warnings. ``extra`` holds what else the caller's
    definition had, which the template shows to the model. ``definition`` is the definition as the caller wrote it,
    which is shown instead of one made from the other fields.
    """

    name: str
    description: str | None = None
    parameters: Mapping[str, Any] | None = None
    strict: bool | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    definition: Mapping[str, Any] | None = None
    path: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class NamedTool:
    """The reply must call this tool."""

    name: str


ToolChoice = Literal["auto", "none", "required"] | NamedTool


@dataclass(frozen=True, slots=True)
class Thinking:
    """Whether and for how long the model reasons before it answers. None means: as the model's template says.

    Past ``budget_tokens`` the reasoning is closed, so that an answer always appears.
    """

    enabled: bool | None = None
    budget_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class ReplyOptions:
    """How a reply is written: reasoning first, then tool calls or an answer, each with its own constraint.

    ``replay`` says how earlier replies become tokens: the original tokens where the template permits it (``exact``),
    or rendered again (``template``). With ``prefill`` the last message of the
    conversation, if it is the assistant's, is continued rather than followed.
    """

    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = "auto"
    parallel_tool_calls: bool = True
    thinking: Thinking = Thinking()
    answer: AnswerFormat | None = None
    replay: Literal["exact", "template"] = "exact"
    prefill: bool = False


Turn = ReplyOptions
"""An earlier name of ReplyOptions."""


class ReplyArguments(TypedDict, total=False):
    """Keyword arguments of every verb that renders a conversation.

    ``options`` says how the reply is written, and ``turn`` is an earlier name of it. ``think`` and ``tools`` are short
    for ``options.thinking.enabled`` and ``options.tools``, which they replace; tools are definitions in OpenAI's form.
    """

    options: ReplyOptions | None
    turn: ReplyOptions | None
    think: bool | None
    tools: Sequence[Mapping[str, Any]] | None


class ChatArguments(ReplyArguments, total=False):
    """Keyword arguments of every verb that answers a conversation.

    Requests with a lower ``priority`` are served first, if need be by preempting running ones. ``client`` names who
    asks; clients share the machine evenly.
    """

    priority: int
    client: str
