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

MAX_STEPS = 1_000_000
MAX_SECONDS = 5.0
MAX_CHARS = 1 << 25  # of any one text a template makes
MAX_ITEMS = 1_000_000  # of any one list, with the lists in it
MAX_NUMBER = 1_000_000  # an argument of a call, such as a width or the end of a range
_CHARS_PER_STEP, _STEPS_PER_CALL = 1000, 5

_FILTERS = (
    *("abs", "count", "d", "default", "dictsort", "first", "float", "int", "items", "last", "length", "list", "map"),
    *(
        "max",
        "min",
        "reject",
        "rejectattr",
        "reverse",
        "round",
        "safe",
        "select",
        "selectattr",
        "sort",
        "sum",
        "unique",
    ),
)
_PRINTING_FILTERS = ("capitalize", "lower", "string", "title", "trim", "upper")
_PRINTABLE = (int, float, type(None), jinja2.Undefined)
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

    def weigh(self, value: Any, *, to_print: bool = False) -> Any:
        """Pay for a value just made or about to be printed, by all it holds, as often as it holds it."""
        chars = items = 0
        waiting = [value]
        while waiting:
            item = waiting.pop()
            items += 1
            if items > MAX_ITEMS:
                raise SecurityError(f"the template makes a list of more than {MAX_ITEMS} items")
            if isinstance(item, str):
                chars += len(item)
            elif isinstance(item, dict):
                waiting += item
                waiting += item.values()
            elif isinstance(item, (list, tuple)):
                waiting += item
            elif to_print and not isinstance(item, _PRINTABLE):
                raise SecurityError(f"the template prints a {type(item).__name__}")
        self.spend(items // 8)
        self.allow(chars)
        return value


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox with the options chat templates are written for, and every operation that can grow accounted for."""

    intercepted_binops = frozenset(["+", "*", "**", "%"])

    def __init__(self, now: Callable[[], datetime]) -> None:
        extensions = ["jinja2.ext.loopcontrols", _Generation]
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=extensions, finalize=_printed)
        self.filters = {name: self.filters[name] for name in _FILTERS} | {
            name: _printing(self.filters[name]) for name in _PRINTING_FILTERS
        }
        self.filters |= {"tojson": _to_json, "join": _join, "replace": _replace}
        self.filters |= {"counted": _counted, "weighed": _weighed, "printed": _printed}
        self.globals = {
            "range": range,
            "namespace": self.globals["namespace"],
            "dict": dict,
            "raise_exception": _raise,
            "strftime_now": lambda pattern: now().strftime(pattern),
        }

    def wrap_str_format(self, value: Any) -> Any:
        """Refuse the formatting of texts, whose widths no budget could foresee."""
        if super().wrap_str_format(value) is not None:
            raise SecurityError("the sandbox has no format")
        return None

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call for the template, after looking at what the call could make."""
        budget: _Budget = context[_BUDGET]
        budget.spend(_STEPS_PER_CALL)
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
        return budget.weigh(super().call(context, obj, *args, **kwargs))

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
        return budget.weigh(super().call_binop(context, operator, left, right))


class _Generation(Extension):
    """Accepts the ``generation`` tags that mark an assistant's words for training; they change nothing here."""

    tags = {"generation"}  # noqa: RUF012 - as the base class has it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The body of the tags."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Accounting(NodeTransformer):
    """Makes loops, lists and concatenations draw on the budget."""

    def __init__(self, environment: jinja2.Environment) -> None:
        self._environment = environment

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - the names the visitor looks for
        self.generic_visit(node)
        node.iter = self._through("counted", node.iter)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.nodes = [self._through("printed", part) for part in node.nodes]
        return self._through("weighed", node)

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return self._through("weighed", node)

    visit_Dict = visit_List  # noqa: N815

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return self._through("weighed", node) if node.ctx == "load" else node

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
def _weighed(context: Context, value: Any) -> Any:
    budget: _Budget = context[_BUDGET]
    return budget.weigh(value)


@jinja2.pass_context
def _printed(context: Context, value: Any) -> Any:
    budget: _Budget = context[_BUDGET]
    return value if isinstance(value, str) else budget.weigh(value, to_print=True)


def _printing(function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter of the library that turns its first argument into text, behind a look at that argument."""

    @jinja2.pass_context
    def apply(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        return function(_printed(context, value), *args, **kwargs)

    return apply


@jinja2.pass_context
def _join(context: Context, values: Any, d: Any = "", attribute: Any = None) -> str:
    if attribute is not None:
        values = (context.environment.getitem(value, attribute) for value in values)
    between, texts = str(_printed(context, d)), [str(_printed(context, value)) for value in values]
    budget: _Budget = context[_BUDGET]
    budget.allow(sum(map(len, texts)) + len(between) * len(texts))
    return between.join(texts)


@jinja2.pass_context
def _replace(context: Context, text: Any, old: Any, new: Any, count: int | None = None) -> str:
    before, what, by = (str(_printed(context, value)) for value in (text, old, new))
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
    budget: _Budget = context[_BUDGET]
    budget.weigh(value)
    text = json.dumps(value, ensure_ascii=False, indent=indent, separators=separators, sort_keys=sort_keys)
    if ensure_ascii:  # but leave the private planes, which hold the stand-ins of shield.py
        text = re.sub("[^\x00-\x7f\U000f0000-\U0010ffff]", lambda match: json.dumps(match[0])[1:-1], text)
    budget.allow(len(text))
    return text


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)
