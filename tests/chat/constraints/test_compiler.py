"""Replies held to a form: whatever the model would like to say, what comes out has the form that was asked for."""

from __future__ import annotations

import contextlib
import json
import random
import re
import time
from collections import Counter
from typing import Any

import jsonschema
import pytest

from chat_vocabulary import tokenizer
from loqal.chat.constraints.rules import ConstraintBuilder
from loqal.chat.output.parser import OutputParser
from loqal.chat.template import tools
from loqal.errors import RequestError
from loqal.types.messages import ToolCall
from loqal.types.reply_options import Grammar, JsonSchema, NamedTool, OneOf, Regex, ReplyOptions, Thinking, Tool
from random_schemas import Schemas, random_reply

RULES = ConstraintBuilder(tokenizer())
# The library's own checks of the other formats know less than their standards.
FORMATS = jsonschema.FormatChecker(["date", "ipv4", "ipv6", "uuid", "email"])
CALL_OPEN = tokenizer().special_ids["<tool_call>"]
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def reply(turn: ReplyOptions, seed: int = 0, max_tokens: int = 3000) -> tuple[list[int], bool]:
    """A reply of random logits, and whether it ended by itself."""
    return random_reply(RULES.guides(turn, thinking=False, room=max_tokens)(), tokenizer(), seed, max_tokens)


def text_of(turn: ReplyOptions, seed: int = 0) -> str:
    ids, has_ended = reply(turn, seed)
    assert has_ended
    return tokenizer().decode(ids)


def test_random_schemas(pytestconfig: pytest.Config) -> None:
    """Every reply that ends validates. With --schemas N the test is as thorough as you like."""
    seen: Counter[str] = Counter()
    seed = -1
    while seen["valid"] < pytestconfig.getoption("schemas"):
        seed += 1
        schema = Schemas(seed).draw()
        try:
            ids, has_ended = reply(ReplyOptions(answer=JsonSchema(schema)), seed)
        except RequestError as error:  # it accepts nothing
            assert error.why.startswith("Unsatisfiable schema"), (seed, error)
            assert "#" in error.what
            seen["refused"] += 1
            continue
        if has_ended:
            value = json.loads(tokenizer().decode(ids))
            jsonschema.Draft202012Validator(schema, format_checker=FORMATS).validate(value)
        seen["valid" if has_ended else "cut"] += 1
    assert seen["refused"] + seen["cut"] <= seen["valid"] // 50 + 2, seen


@pytest.mark.parametrize("seed", range(4))
def test_other_forms(seed: int) -> None:
    pattern = r"(ab|c/d){1,3}\n?[0-9]+"
    assert re.fullmatch(pattern, text_of(ReplyOptions(answer=Regex(pattern)), seed))
    assert text_of(ReplyOptions(answer=OneOf(("yes", "no", 'say "é"\n'))), seed) in ("yes", "no", 'say "é"\n')
    lark = 'start: "(" item ("," item)* ")"\nitem: /[a-z]{2}/ | start'
    found = text_of(ReplyOptions(answer=Grammar(lark)), seed)
    assert re.fullmatch(r"[(),a-z]+", found)
    assert found.count("(") == found.count(")")
    assert isinstance(json.loads(text_of(ReplyOptions(answer=JsonSchema()), seed)), dict)


REFUSED: list[tuple[Any, str]] = [
    ({"properties": {"a": {"not": {"minLength": 2}}}}, "#/properties/a/not"),
    ({"items": [{"uniqueItems": True}]}, "#/items/0/uniqueItems"),
    (
        {"$ref": "#/$defs/x~1y", "$defs": {"x/y": {"if": {"minimum": 2}, "then": {"multipleOf": 2}}}},
        "#/$defs/x~1y/if",
    ),
    ({"anyOf": [{}, {"type": "array", "contains": {"type": "string"}}]}, "#/anyOf/1/contains"),
    ({"properties": {"a": {"properties": {"b": {"pattern": "(?=x)"}}}}}, "#/properties/a/properties/b/pattern"),
    ({"properties": {"a": {"pattern": "(x"}}}, "#/properties/a/pattern"),
    ({"properties": {"a": {"$ref": "#/$defs/none"}}}, "#/properties/a/$ref"),
    ({"properties": {"a": {"$ref": "http://example.com/x"}}}, "#/properties/a/$ref"),
    ({"properties": {"a": {"type": "text"}}}, "#/properties/a/type"),
    ({"oneOf": [{"type": "string"}, {"maxLength": 3}]}, "#/oneOf"),
    ({"properties": {"a": 3}}, "#/properties/a"),
    ({"type": "integer", "minimum": 3, "maximum": 2}, "#"),
    (False, "#"),
    ({"enum": ["x" * (1 << 18)]}, "#"),
    ({"properties": {"a": {"enum": []}}}, "#/properties/a/enum"),
    ({"properties": {"a": {"type": "string", "minLength": -1}}}, "#/properties/a/minLength"),
    ({"properties": {"a": {"minimum": 1e300}}}, "#/properties/a/minimum"),
]
LENIENT = {"#/properties/a/not", "#/items/0/uniqueItems", "#/$defs/x~1y/if", "#/anyOf/1/contains", "#/oneOf"}
LENIENT |= {"#/properties/a/properties/b/pattern", "#/properties/a/pattern"}


@pytest.mark.parametrize(("schema", "pointer"), REFUSED)
def test_what_cannot_be_enforced_is_refused_by_its_pointer(schema: Any, pointer: str) -> None:
    with pytest.raises(RequestError) as caught:
        RULES.guides(ReplyOptions(answer=JsonSchema(schema, strict=True)), thinking=False, room=9)
    assert caught.value.what.endswith(f"at {pointer}.")
    assert caught.value.path == f"answer.schema{pointer}"
    assert caught.value.why.endswith(".")
    if pointer in LENIENT:
        found = RULES.guides(ReplyOptions(answer=JsonSchema(schema)), thinking=False, room=9)
        assert [one.split(":")[0] for one in found.warnings] == [f"answer.schema{pointer}"]
    else:
        with pytest.raises(RequestError):
            RULES.guides(ReplyOptions(answer=JsonSchema(schema, strict=False)), thinking=False, room=9)


FILLED: list[tuple[Any, Any, Any]] = [
    ({"type": "object", "properties": {"a": {"type": "string", "nullable": True}}}, {"a": None}, {"a": 1}),
    ({"type": "string", "format": "password"}, "x", 1),
    ({"type": "string", "format": "date"}, "2024-02-29", "2023-02-29"),
    ({"type": "string", "format": "date-time"}, "2024-04-30T23:59:59Z", "2024-04-31T23:59:59Z"),
    ({"type": "string", "contentEncoding": "base64"}, "x", 1),
    ({"x-order": 1, "x-guidance": {"lenient": True}, "type": "null"}, None, 1),
    ({"$schema": "http://example.com/x", "type": "null"}, None, 1),
    ({"$ref": "#a", "$defs": {"x": {"$anchor": "a", "type": "null"}}}, None, 1),
    (
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "$ref": "#/definitions/x",
            "maxLength": 1,
            "definitions": {"x": {"type": "string"}},
        },
        "long",
        1,
    ),
    ({"type": "int", "maximum": 1e30}, 5, 5.5),
    ({"type": "string", "minLength": 2.0}, "ab", "a"),
    ({"type": "BOOLEAN"}, True, "True"),
    ({"enum": ["a"], "nullable": True}, None, "b"),
    ({"type": "object", "properties": {"a": {}}, "required": ["a"]}, {"a": 1}, {"a": 1, "b": 2}),
    (
        {
            "oneOf": [
                {
                    "type": "object",
                    "properties": {"kind": {"const": kind}, kind: {"type": "null"}},
                    "required": ["kind"],
                }
                for kind in "ab"
            ]
        },
        {"kind": "b", "b": None},
        {"kind": "b", "a": None},
    ),
    ({"not": {"type": "string"}}, 5, "x"),
    ({"if": {"required": ["a"]}, "then": {"required": ["b"]}, "type": "object"}, {"a": 1, "b": 1}, {"a": 1}),
    ({"dependentRequired": {"a": ["b"]}, "type": "object"}, {"b": 1, "a": 1}, {"a": 1}),
    ({"propertyNames": {"pattern": "^x"}, "type": "object"}, {"xa": 1}, {"a": 1}),
]


def writable(turn: ReplyOptions, value: Any) -> bool:
    """Whether an answer may be this JSON value."""
    guide = RULES.guides(turn, thinking=False, room=99)()
    assert guide is not None
    return follows(guide, [*tokenizer().encode_text(json.dumps(value)), min(tokenizer().eos_ids)])


def follows(guide: Any, ids: list[int]) -> bool:
    """Whether a constraint lets through a whole reply."""
    for token_id in ids:
        mask = guide.mask()
        if token_id in guide.banned() or (mask is not None and not mask[token_id >> 5] >> (token_id & 31) & 1):
            return False
        guide.push(token_id)
    return True


@pytest.mark.parametrize(("schema", "valid", "invalid"), FILLED)
def test_what_generators_write_is_followed(schema: Any, valid: Any, invalid: Any) -> None:
    turn = ReplyOptions(answer=JsonSchema(schema, strict=True))
    assert writable(turn, valid)
    assert not writable(turn, invalid)


GBNF = r"""root ::= (expr "=" term "\n")+   # sums
expr ::= term ([-+*/] term)*
term ::= num | "(" expr ")"
num ::= [0-9]{1,3}
"""


def test_grammars_of_other_notations() -> None:
    assert allows(Grammar(GBNF), "1+(2*3)=7\n") and not allows(Grammar(GBNF), "1+=7\n")
    assert allows(Grammar('root ::= "a" | b\nb ::= "b" root'), "bba")
    assert allows(Regex("^[0-9]+$"), "12") and not allows(Regex("^[0-9]+$"), "x")
    with pytest.raises(RequestError, match="It is not valid in line 2"):
        allows(Grammar('root ::= b\nb ::= "b'), "b")


def allows(answer: Any, text: str) -> bool:
    guide = RULES.guides(ReplyOptions(answer=answer), thinking=False, room=9)()
    return follows(guide, [*tokenizer().encode_text(text), min(tokenizer().eos_ids)])


NO_KEY_TWICE = {"type": "object", "additionalProperties": True, "minProperties": 2}


@pytest.mark.parametrize(
    ("text", "is_right"),
    [
        ('{"a": 1, "b": 2}', True),
        ('{"a": 1, "a": 2}', False),
        ('{"a": 1, "ab": {"a": 3}}', True),
        ('{"a": 1}', False),
        ('{"a": 1e12, "b": 1}', True),
        ('{"a": 1e125, "b": 1}', False),
        ('{"a": ' + "1" * 41 + ', "b": 1}', False),
        ('{"a": [true, null, "1e999", {"a": 1}], "b": 1}', True),
    ],
)
def test_keys_differ_and_numbers_are_bounded(text: str, is_right: bool) -> None:
    assert allows(JsonSchema(NO_KEY_TWICE), text) is is_right


@pytest.mark.parametrize(
    ("text", "is_right"),
    [
        ('<parameter=o>\n{"a": 1, "a": 2}\n</parameter>\n', False),
        ('<parameter=s>\n{"a": 1, "a": 2}\n</parameter>\n', True),
        ("<parameter=z>\n1\n</parameter>\n<parameter=z>\n", False),
        ("<parameter=z>\n1\n</parameter>\n<parameter=zz>\n", True),
    ],
)
def test_names_in_calls_differ(text: str, is_right: bool) -> None:
    properties = {"o": {"type": "object"}, "s": {"type": "string"}}
    tool = Tool("f", parameters={"type": "object", "properties": properties, "additionalProperties": True})
    guide = RULES.guides(ReplyOptions(tools=(tool,), tool_choice="required"), thinking=False, room=99)()
    assert follows(guide, tokenizer().encode_with_control("<tool_call>\n<function=f>\n" + text)) is is_right


@pytest.mark.parametrize(
    "answer",
    [
        Regex("(a"),
        Regex("(?=a)b"),
        Grammar("start: nothing"),
        Grammar('start: "a'),
        Grammar(""),
        OneOf(()),
        OneOf(("",)),
    ],
)
def test_other_forms_are_refused(answer: Any) -> None:
    with pytest.raises(RequestError):
        RULES.guides(ReplyOptions(answer=answer), thinking=False, room=9)


BOMBS = [
    Regex("((((a{100}){100}){100}){100}){100}"),
    Regex("(a|aa|aaa|aaaa)*b" * 200),
    Regex("(.*a){40}.{60}"),
    Regex("(x+x+)+y"),
    Regex("|".join(f"(.*{i}.*)" for i in range(400))),
    Regex("a" * (1 << 19)),
    Grammar("start: " + "(" * 5000 + '"a"' + ")" * 5000),
    Grammar("start: a | a a\na: b b | b\nb: c c | c\nc: start start | /[a-z]/"),
    Grammar("start: start start | /[a-z]*/ | "),
    JsonSchema({"type": "array", "minItems": 10**9, "items": {"type": "integer"}}),
    JsonSchema({"type": "string", "pattern": "^(([a-z]{1,90}){1,90}){1,90}$"}),
    JsonSchema({"allOf": [{"anyOf": [{"minLength": i}, {"maxLength": i}]} for i in range(24)]}),
]


@pytest.mark.parametrize("answer", BOMBS, ids=lambda one: str(one)[:40])
def test_bombs_are_bounded(answer: Any) -> None:
    """They compile in bounded time or not at all, and are followed in bounded time or end as an error."""
    started = time.process_time()
    with contextlib.suppress(RequestError):
        reply(ReplyOptions(answer=answer), max_tokens=40)
    assert time.process_time() - started < 4


def parsed(ids: list[int], turn: ReplyOptions) -> tuple[str, list[ToolCall]]:
    parser = OutputParser(tokenizer(), False, [tools.definition(tool) for tool in turn.tools])
    deltas = [delta for token_id in ids for delta in parser.push(token_id)] + parser.finish()
    return "".join(d.text for d in deltas), [d.tool_call for d in deltas if d.tool_call is not None]


@pytest.mark.parametrize("seed", range(60))
def test_random_tools(seed: int) -> None:
    """Calls are complete, of tools that are offered, and the arguments validate where that was asked for."""
    rng = random.Random(seed)
    names = [f"tool_{index}" for index in range(rng.randint(1, 3))]
    offered = tuple(
        Tool(name, parameters=Schemas(seed * 10 + index).arguments(), strict=rng.random() < 0.6 or None)
        for index, name in enumerate(names)
    )
    choice = rng.choice(["required", "auto", NamedTool(names[-1])])
    turn = ReplyOptions(tools=offered, tool_choice=choice, parallel_tool_calls=rng.random() < 0.3)
    try:
        guide = RULES.guides(turn, thinking=False, room=3000)()
    except RequestError as error:
        assert "#/" in error.what
        return
    begun = []
    if choice == "auto":
        assert guide is not None
        guide.push(CALL_OPEN)
        begun = [CALL_OPEN]
    ids, has_ended = random_reply(guide, tokenizer(), seed, 3000)
    text, calls = parsed(begun + ids, turn)
    if not has_ended:
        return
    assert text == ""
    assert len(calls) == 1 or turn.parallel_tool_calls
    for call in calls:
        (tool,) = (tool for tool in offered if tool.name == call.name)
        assert tool.name == names[-1] or not isinstance(choice, NamedTool)
        jsonschema.Draft202012Validator(tool.parameters, format_checker=FORMATS).validate(call.arguments)


def test_tools_and_a_form_go_together() -> None:
    turn = ReplyOptions(tools=(Tool("weather", parameters=CITY),), answer=OneOf(("none",)), parallel_tool_calls=False)
    seen = set()
    for seed in range(20):
        text, calls = parsed(reply(turn, seed)[0], turn)
        assert (text == "none") == (not calls)
        seen.add(bool(calls))
    assert seen == {True, False}


def test_no_call_where_none_is_wanted() -> None:
    guide = RULES.guides(ReplyOptions(tools=(Tool("f"),), tool_choice="none"), thinking=False, room=9)()
    assert guide is not None
    assert guide.mask() is None
    assert list(guide.banned()) == [CALL_OPEN]


def test_a_turn_without_wishes_has_no_guide() -> None:
    assert RULES.guides(ReplyOptions(), thinking=False, room=9)() is None


@pytest.mark.parametrize(
    ("turn", "what"),
    [
        (ReplyOptions(tool_choice="required"), "tool_choice"),
        (ReplyOptions(tools=(Tool("f"),), tool_choice=NamedTool("g")), "'g'"),
        (ReplyOptions(tools=(Tool("f"), Tool("f"))), r"tools\[1\]"),
        (ReplyOptions(tools=(Tool("a>b"),)), r"tools\[0\]"),
        (ReplyOptions(tools=(Tool("f", parameters=[]),)), r"tools\[0\].parameters"),  # type: ignore[arg-type]
        (ReplyOptions(thinking=Thinking(True, -1)), "budget_tokens"),
        (ReplyOptions(tools=(Tool("f", parameters={"not": {}}, strict=True),)), r"tools\[0\].parameters .* #/not"),
        (
            ReplyOptions(tools=(Tool("f", parameters={"properties": {"a": {"enum": []}}, "required": ["a"]}),)),
            "#/properties/a/enum",
        ),
    ],
)
def test_tools_that_cannot_be_followed_are_refused(turn: ReplyOptions, what: str) -> None:
    with pytest.raises(RequestError, match=what):
        RULES.guides(turn, thinking=False, room=9)


STRICT: list[tuple[Any, str]] = [
    ({"properties": {"a": {"type": "integer"}}, "required": ["b"]}, "#/required"),
    ({"properties": {"a": {"type": "integer"}}, "minProperties": 1}, "#/minProperties"),
    ({"properties": {"a": {"anyOf": [{"type": "string"}], "minLength": 2}}}, "#/properties/a/minLength"),
    (
        {"properties": {"a": {"$ref": "#/$defs/s", "maxLength": 2}}, "$defs": {"s": {"type": "string"}}},
        "#/properties/a",
    ),
    ({"properties": {"a": {"minLength": 2}}}, "#/properties/a/minLength"),
    ({"properties": {"a": {"type": "string", "pattern": "^a|b$"}}}, "#/properties/a/pattern"),
    ({"properties": {"a>b": {"type": "string"}}}, "#/properties"),
]


@pytest.mark.parametrize(("schema", "pointer"), STRICT)
def test_what_strict_arguments_cannot_be_held_to_is_refused(schema: Any, pointer: str) -> None:
    with pytest.raises(RequestError, match=re.escape(pointer)):
        RULES.guides(ReplyOptions(tools=(Tool("f", parameters=schema, strict=True),)), thinking=False, room=9)
    RULES.guides(ReplyOptions(tools=(Tool("f", parameters=schema),), tool_choice="required"), thinking=False, room=9)


def test_arguments_of_every_kind_come_back_as_they_were_meant() -> None:
    properties = {
        "raw": {"type": "string"},
        "short": {"type": "string", "maxLength": 3},
        "code": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]$"},
        "part": {"type": "string", "pattern": "x"},
        "kind": {"enum": ["a", 2, None]},
        "many": {"type": "array", "items": {"$ref": "#/$defs/n"}},
        "maybe": {"anyOf": [{"type": "null"}, {"type": "object"}]},
        "flag": {"type": "boolean"},
    }
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "$defs": {"n": {"type": "integer"}},
    }
    turn = ReplyOptions(
        tools=(Tool("f", parameters=schema, strict=True),), tool_choice="required", parallel_tool_calls=False
    )
    for seed in range(6):
        ids, has_ended = reply(turn, seed)
        if has_ended:
            text, (call,) = parsed(ids, turn)
            assert text == ""
            jsonschema.Draft202012Validator(schema).validate(call.arguments)
            assert set(call.arguments) == set(properties)


ODD: list[Any] = [
    {"properties": []},
    {"properties": {"a": 3, "b": [], "c": True, "d": {"type": 5}, "e": {"type": ["string", 3]}, "f": {"anyOf": 3}}},
    {"properties": {"a": {"type": "string", "minLength": "x"}, "b": {"type": "string", "pattern": 5}}},
    {"properties": {"a": {"type": "string", "pattern": "(?=x)"}, "b": {"type": "array", "uniqueItems": True}}},
    {"properties": {"a": {"enum": 3}, "b": {"enum": []}, "c": {"$ref": "#/nowhere"}, "d": {"$ref": "#/properties/d"}}},
    {"properties": {"a": {"anyOf": [{"$ref": "#/properties/a"}]}}, "required": 3},
    {"properties": {"a>b": {"type": "string"}}, "required": ["a>b", 4]},
    {"additionalProperties": {"type": "integer"}},
    {"type": "array"},
]


@pytest.mark.parametrize("schema", ODD)
@pytest.mark.parametrize("choice", ["auto", "required"])
def test_odd_schemas_of_tools_are_followed_as_far_as_they_go(schema: Any, choice: Any) -> None:
    turn = ReplyOptions(tools=(Tool("f", parameters=schema),), tool_choice=choice, parallel_tool_calls=False)
    guide = RULES.guides(turn, thinking=False, room=9)()
    assert guide is not None
    begun = []
    if choice == "auto":
        guide.push(CALL_OPEN)
        begun = [CALL_OPEN]
    ids, has_ended = random_reply(guide, tokenizer(), 1, 3000)
    if has_ended and choice == "required":
        assert [call.name for call in parsed(begun + ids, turn)[1]] == ["f"]


def test_no_call_where_nothing_speaks_of_calls() -> None:
    guide = RULES.guides(ReplyOptions(), thinking=False, room=9, free_calls=False)()
    assert guide is not None and list(guide.banned()) == [CALL_OPEN]
    thinking = RULES.guides(ReplyOptions(), thinking=True, room=99, free_calls=False)()
    assert thinking is not None and CALL_OPEN in thinking.banned()


def test_a_call_may_end_the_reasoning() -> None:
    turn = ReplyOptions(tools=(Tool("f"),))
    guide = RULES.guides(turn, thinking=True, room=500)()
    assert guide is not None
    text = "because\n<tool_call>\n<function=f>\n</function>\n</tool_call><|im_end|>"
    assert follows(guide, tokenizer().encode_with_control(text))


def test_an_answer_that_cycles_is_ended() -> None:
    free = RULES.guides(ReplyOptions(), thinking=False, room=9, free_calls=False)()
    assert free is not None
    word = tokenizer().encode_text("x")[0]
    for _ in range(1100):
        if free.mask() is not None:
            break
        free.push(word)
    assert free.was_cycling
    mask = free.mask()
    assert mask is not None and any(mask[end >> 5] >> (end & 31) & 1 for end in tokenizer().eos_ids)
    held = RULES.guides(ReplyOptions(answer=JsonSchema({"type": "string"})), thinking=False, room=9)()
    assert held is not None
    assert follows(held, [tokenizer().encode_text('"')[0], *[word] * 1025])
    assert held.was_cycling
    assert follows(held, [*tokenizer().encode_text('"'), min(tokenizer().eos_ids)])


def test_warnings_say_what_is_not_held() -> None:
    schema = {"properties": {"a": {"type": "array", "uniqueItems": True}}, "required": ["a"], "minProperties": 1}
    found = RULES.guides(ReplyOptions(tools=(Tool("f", parameters=schema, path="p"),)), thinking=False, room=9)
    assert [one.split(":")[0] for one in found.warnings] == ["p#/minProperties", "p#/properties/a/uniqueItems"]
    free = RULES.guides(ReplyOptions(tools=(Tool("f", parameters=schema, strict=False),)), thinking=False, room=9)
    assert free.warnings == ()
