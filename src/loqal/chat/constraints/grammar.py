"""Grammars of replies, in Lark's notation as ``llguidance`` reads it: answers of a given form.

A grammar describes bytes and, by their names, control tokens; the text of a control token never stands for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from loqal.errors import RequestError
from loqal.types.reply_options import AnswerFormat, Grammar, JsonSchema, OneOf, Regex

# White space between the parts of a JSON text: a space or none, so that no reply runs away in it.
COMPACT_SPACE: Any = {"whitespace_pattern": " ?"}
MAX_GRAMMAR_CHARS = 1 << 18
_MOST_CHOICES = 10_000


def answer_rule(answer: AnswerFormat) -> str:
    """The rule of an answer's form, which is the body of ``start`` or another rule. ``Grammar`` has ``@answer``."""
    if isinstance(answer, JsonSchema):
        return json_rule({"type": "object"} if answer.schema is None else answer.schema)
    if isinstance(answer, Regex):
        return f"/{slashed(_without_anchors(answer.pattern))}/"
    if isinstance(answer, OneOf):
        if not 1 <= len(answer.choices) <= _MOST_CHOICES or "" in answer.choices:
            raise RequestError(
                f"answer.choices has {len(answer.choices)} texts.",
                f"It must have from 1 to {_MOST_CHOICES:,}, none of them empty.",
                "Give the texts to choose from.",
            )
        return " | ".join(map(literal, dict.fromkeys(answer.choices)))
    return "@answer"


def _without_anchors(pattern: str) -> str:
    """An expression for a whole text without the anchors that say so."""
    body = pattern.removeprefix("^")
    if body.endswith("$") and not re.search(r"(?<!\\)(?:\\\\)*\\\$$", body):
        body = body[:-1]
    plain = re.sub(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", "", body, flags=re.DOTALL)
    return pattern if has_choice(plain) else body


def has_choice(plain: str) -> bool:
    """Whether an expression, without its classes and escapes, offers a choice outside of all groups."""
    depth = 0
    for char in plain:
        depth += (char == "(") - (char == ")")
        if char == "|" and depth == 0:
            return True
    return False


def whole(start: str, rules: Sequence[str], answer: AnswerFormat | None) -> str:
    """A complete grammar."""
    text = "\n".join([f"start: {start}", *rules])
    if not isinstance(answer, Grammar):
        return text
    grammars = [{"lark_grammar": text}, {"name": "answer", "lark_grammar": answer.text}]
    return json.dumps({"grammars": grammars})


def json_rule(schema: Any) -> str:
    """JSON text that a schema accepts."""
    marked = {"allOf": [schema]} if isinstance(schema, bool) else dict(schema)
    return "%json " + json.dumps({**marked, "x-guidance": COMPACT_SPACE})


def literal(text: str) -> str:
    """Exactly this text."""
    return json.dumps(text, ensure_ascii=False)


def slashed(pattern: str) -> str:
    """A regular expression between slashes: its own are escaped, and line ends written out."""
    parts = re.findall(r"\\.|[^\\]|\\$", pattern, re.DOTALL)
    return "".join({"/": "\\/", "\n": "\\n"}.get(part, part) for part in parts)


def without(*tags: str) -> str:
    """An expression for texts that hold none of some tags, each of which has an angle bracket at its beginning only.

    It is spelled out, since expressions that are the complement of others cost the library much more.
    """
    return f"[^<]*(<{_no_prefix([tag[1:] for tag in tags])})*"


def _no_prefix(words: Sequence[str]) -> str:
    """Text up to the next angle bracket that begins with none of some words."""
    firsts = sorted({word[0] for word in words})
    listed = "".join(firsts).replace("/", "\\/")
    choices = [f"[^<{listed}][^<]*"]
    for first in firsts:
        rest = [word[1:] for word in words if word[0] == first]
        if "" not in rest:
            choices.append(re.escape(first).replace("/", "\\/") + _no_prefix(rest))
    return f"({'|'.join(choices)})?"
