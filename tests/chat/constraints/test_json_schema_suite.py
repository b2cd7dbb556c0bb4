"""The JSON Schema Test Suite: valid instances can be written under a schema that is followed, invalid ones cannot.

The suite is in the source archive of the package ``jsonschema``, in the folder ``json/tests``:

    pip download jsonschema --no-deps --no-binary jsonschema
    pytest tests/chat/constraints/test_json_schema_suite.py --json-schema-suite jsonschema-*/json/tests
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chat_vocabulary import tokenizer
from loqal.chat.constraints.compiler import Constraints, GrammarMatcher
from loqal.chat.constraints.grammar import answer_rule, whole
from loqal.chat.constraints.json_schema import SchemaError, hold
from loqal.errors import RequestError
from loqal.types.reply_options import JsonSchema

CONSTRAINTS = Constraints(tokenizer(), tokenizer().eos_ids)
FEWEST = {"draft2020-12": 319, "draft7": 255}
DRAFT_7 = "http://json-schema.org/draft-07/schema#"

ANNOTATION = "a format that is not held says nothing"
HELD = "formats of strings are held by default, the suite takes them for annotations"
FLOATS = "a listed value is written in one way, and whole numbers without a fraction"
SECONDS = "leap seconds and small letters are not written"
ADDRESSES = "only the usual form of addresses is written"
EXCEPTIONS: dict[str, str] = {
    **dict.fromkeys(
        ("idn-email.json", "idn-hostname.json", "iri.json", "iri-reference.json", "json-pointer.json", "regex.json"),
        ANNOTATION,
    ),
    **dict.fromkeys(("relative-json-pointer.json", "uri-template.json", "content.json", "unknown.json"), ANNOTATION),
    "format.json": HELD,
    **dict.fromkeys(("const.json", "enum.json", "type.json"), FLOATS),
    **dict.fromkeys(("date-time.json", "time.json"), SECONDS),
    **dict.fromkeys(("email.json", "ipv6.json", "hostname.json", "uri.json", "uri-reference.json"), ADDRESSES),
    "float-overflow.json": "exponents have at most two digits",
    "bignum.json": "numbers beyond 1e18 are not written beside bounds",
    "ecmascript-regex.json": "white space and escapes are those of the constraint library's expressions",
    "non-bmp-regex.json": "a key may also match no expression where others are allowed",
    "vocabulary.json": "metaschemas are not read",
    "dynamicRef.json": "a dynamic reference is followed where its name is used once",
}


def orders(value: Any) -> Iterator[Any]:
    """The same value with its keys in other orders: a form writes them in the order of the schema."""
    if isinstance(value, dict):
        for keys in itertools.permutations(value) if len(value) <= 4 else [tuple(value)]:
            inner = [list(itertools.islice(orders(value[key]), 6)) for key in keys]
            yield from (dict(zip(keys, row, strict=True)) for row in itertools.islice(itertools.product(*inner), 50))
    elif isinstance(value, list) and len(value) <= 4:
        inner = [list(itertools.islice(orders(item), 6)) for item in value]
        yield from map(list, itertools.islice(itertools.product(*inner), 50))
    else:
        yield value


def is_writable(matcher: GrammarMatcher, value: Any) -> bool:
    for one in itertools.islice(orders(value), 200):
        for text in {json.dumps(one, ensure_ascii=False), json.dumps(one)}:
            copy = matcher.copy()
            if copy.accepts(tokenizer().encode_text(text)) and may_end(copy):
                return True
    return False


def may_end(matcher: GrammarMatcher) -> bool:
    try:
        mask = matcher.mask()
    except RequestError:
        return False
    return any(mask[token_id >> 5] >> (token_id & 31) & 1 for token_id in tokenizer().eos_ids)


@pytest.mark.parametrize("draft", sorted(FEWEST))
def test_instances_are_writable_where_they_are_valid(draft: str, pytestconfig: pytest.Config) -> None:
    folder = pytestconfig.getoption("--json-schema-suite")
    if folder is None:
        pytest.skip("--json-schema-suite names no folder")
    num_followed = num_all = 0
    wrong: list[tuple[str, str, str]] = []
    for path in sorted([*Path(folder, draft).glob("*.json"), *Path(folder, draft).glob("optional/**/*.json")]):
        for group in json.loads(path.read_text()):
            schema = group["schema"]
            if draft == "draft7" and isinstance(schema, dict):
                schema = {"$schema": DRAFT_7, **schema}
            num_all += 1
            try:
                held = hold(schema, "schema", CONSTRAINTS.schema_fault, strict=True, close=False)
                text = whole(answer_rule(JsonSchema(held.schema)), [], None)
                watch = CONSTRAINTS.watch({}, is_json=True, call_open=-1)
                matcher = CONSTRAINTS.compile(text, "schema", watch)
            except SchemaError as error:
                assert error.path is not None and error.path.startswith("schema#"), (path.name, group["description"])
                continue
            num_followed += 1
            for case in group["tests"]:
                if is_writable(matcher, case["data"]) != case["valid"] and path.name not in EXCEPTIONS:
                    wrong.append((path.name, group["description"], case["description"]))
    print(f"{draft}: {num_followed} of {num_all} schemas are followed")
    assert not wrong, "\n".join(map(str, wrong))
    assert num_followed >= FEWEST[draft]
