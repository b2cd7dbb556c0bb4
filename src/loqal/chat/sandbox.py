"""The template language of model files, with limits on what a template can do.

jinja2's immutable sandbox keeps a template away from Python. Against templates that want to exhaust the machine there
is a budget of steps per rendering: loops, calls, concatenations, sums and products draw on it, in proportion to the
text they make. Filters and functions are those chat templates use; another one is refused when the template is loaded.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

MAX_STEPS = 2_000_000
MAX_SECONDS = 10.0
MAX_CHARS = 1 << 25  # of any one text a template makes
MAX_NUMBER = 1_000_000  # an argument of a call, such as a width or the end of a range
_CHARS_PER_STEP = 1000

_FILTERS = (
    *("abs", "capitalize", "count", "d", "default", "dictsort", "first", "float", "int", "items", "last", "length"),
    *("list", "lower", "map", "max", "min", "reject", "rejectattr", "reverse", "round", "safe", "select"),
    *("selectattr", "sort", "string", "sum", "title", "trim", "unique", "upper"),
)
_BUDGET = "the budget"  # not a name a template could write


class Program:
    """A template, ready to run.

    Args:
        source: its text.
        now: the clock, for templates that write the date.

    Raises:
        jinja2.TemplateError: the template is not valid, or uses something the sandbox does not offer.
    """

    def __init__(self, source: str, now: Callable[[], datetime] = datetime.now) -> None:
        environment = _Environment(now)
        tree = environment.parse(source)
        _Accounting(environment).visit(tree)
        globals_ = environment.make_globals(None)
        self._template = jinja2.Template.from_code(environment, environment.compile(tree), globals_)

    def run(self, variables: Mapping[str, Any]) -> str:
        """The rendering. Raises whatever the template provokes, ``SecurityError`` where it exceeds a limit."""
        budget = _Budget()
        pieces: list[str] = []
        length = 0
        for piece in self._template.generate({**variables, _BUDGET: budget}):
            length += len(piece)
            budget.allow(length if length > MAX_CHARS else len(piece))
            pieces.append(piece)
        return "".join(pieces)


class _Budget:
    """What one rendering may still do."""

    def __init__(self) -> None:
        self._steps = MAX_STEPS
        self._deadline = time.monotonic() + MAX_SECONDS
        self._next_look = self._steps - 256

    def spend(self, steps: int = 1) -> None:
        self._steps -= steps
        if self._steps < 0:
            raise SecurityError(f"the template took more than {MAX_STEPS} steps")
        if self._steps < self._next_look:
            self._next_look = self._steps - 256
            if time.monotonic() > self._deadline:
                raise SecurityError(f"the template took longer than {MAX_SECONDS:g} seconds")

    def allow(self, length: int) -> None:
        """Pay for a text or list about to be made."""
        if length > MAX_CHARS:
            raise SecurityError(f"the template makes a text of {length} characters")
        self.spend(1 + length // _CHARS_PER_STEP)

    def made(self, value: Any) -> Any:
        """Pay for a value just made."""
        self.allow(len(value) if isinstance(value, (str, list, tuple, dict)) else 0)
        return value


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox with the options chat templates are written for, and every operation that can grow accounted for."""

    intercepted_binops = frozenset(["+", "*", "**", "%"])

    def __init__(self, now: Callable[[], datetime]) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _Generation])
        self.filters = {name: self.filters[name] for name in _FILTERS}
        self.filters |= {"tojson": _to_json, "join": _join, "replace": _replace, "counted": _counted, "paid": _paid}
        self.globals = {
            "range": range,
            "namespace": self.globals["namespace"],
            "dict": dict,
            "raise_exception": _raise,
            "strftime_now": lambda pattern: now().strftime(pattern),
        }

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call for the template, after looking at what the call could make."""
        budget: _Budget = context[_BUDGET]
        for value in (*args, *kwargs.values()):
            if isinstance(value, int) and abs(value) > MAX_NUMBER:
                raise SecurityError(f"the template calls a function with the number {value}")
        owner, name = getattr(obj, "__self__", None), getattr(obj, "__name__", "")
        if isinstance(owner, str):
            budget.allow(len(owner))
            if name == "replace":
                return _replace(context, owner, *args)
            if name == "join":
                return _join(context, args[0], owner)
            if name in ("format", "format_map", "expandtabs", "translate"):
                raise SecurityError(f"the sandbox has no {name}")
        return budget.made(super().call(context, obj, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Compute a sum, product, power or remainder of bounded size."""
        budget: _Budget = context[_BUDGET]
        sizes = [len(side) if isinstance(side, (str, list, tuple)) else 1 for side in (left, right)]
        if operator == "+":
            budget.allow(sum(sizes))
        elif operator == "%" and isinstance(left, str):
            raise SecurityError("the sandbox has no text formatting by %")
        else:
            for side in (left, right):
                if isinstance(side, int) and abs(side) > (MAX_NUMBER if operator != "**" else 64):
                    raise SecurityError(f"the template computes with the number {side}")
            repeat = max([side for side in (left, right) if isinstance(side, int)], default=1)
            budget.allow(max(sizes) * max(repeat, 1) if max(sizes) > 1 else 1)
        return super().call_binop(context, operator, left, right)


class _Generation(Extension):
    """Accepts the ``generation`` tags that mark an assistant's words for training; they change nothing here."""

    tags = {"generation"}  # noqa: RUF012 - as the base class has it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The body of the tags."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Accounting(NodeTransformer):
    """Makes loops and concatenations draw on the budget."""

    def __init__(self, environment: jinja2.Environment) -> None:
        self._environment = environment

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - the names the visitor looks for
        self.generic_visit(node)
        node.iter = self._through("counted", node.iter)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return self._through("paid", node)

    def _through(self, name: str, node: nodes.Node) -> nodes.Filter:
        assert isinstance(node, nodes.Expr)
        wrapped = nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)
        wrapped.set_environment(self._environment)
        return wrapped


@jinja2.pass_context
def _counted(context: Context, values: Any) -> Iterator[Any]:
    budget: _Budget = context[_BUDGET]
    for value in values:
        budget.spend()
        yield value


@jinja2.pass_context
def _paid(context: Context, value: Any) -> Any:
    return context[_BUDGET].made(value)


@jinja2.pass_context
def _join(context: Context, values: Any, d: str = "", attribute: Any = None) -> str:
    if attribute is not None:
        values = (context.environment.getitem(value, attribute) for value in values)
    texts = [str(value) for value in values]
    budget: _Budget = context[_BUDGET]
    budget.allow(sum(map(len, texts)) + len(d) * len(texts))
    return str(d).join(texts)


@jinja2.pass_context
def _replace(context: Context, text: Any, old: Any, new: Any, count: int | None = None) -> str:
    before, what, by = str(text), str(old), str(new)
    budget: _Budget = context[_BUDGET]
    budget.allow(len(before) + before.count(what) * len(by))
    return before.replace(what, by, -1 if count is None else count)


@jinja2.pass_context
def _to_json(
    context: Context,
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as the reference writes it: keys in their order, no escaping of anything but what JSON demands."""
    if isinstance(indent, int) and indent > 16:
        raise SecurityError(f"the template indents JSON by {indent}")
    text = json.dumps(value, ensure_ascii=False, indent=indent, separators=separators, sort_keys=sort_keys)
    if ensure_ascii:  # but leave the private planes, which hold the stand-ins of shield.py
        text = re.sub("[^\x00-\x7f\U000f0000-\U0010ffff]", lambda match: json.dumps(match[0])[1:-1], text)
    budget: _Budget = context[_BUDGET]
    budget.allow(len(text))
    return text


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)
