"""Tool calls in the spellings that models were seen to write, and what each of them means."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any

from loqal.chat.tokens.tokenizer import Tokenizer
from loqal.types.reply_options import Tool

TOOLS = (
    Tool(
        "look_up",
        parameters={
            "type": "object",
            "properties": {
                "word": {"type": "string"},
                "count": {"type": "integer"},
                "exact": {"type": "boolean"},
                "where": {"type": "object", "properties": {"a": {"type": "string"}}},
                "kind": {"enum": ["cat", "dog", 3]},
                "code": {"type": "string", "pattern": "^[A-Z]{2}$"},
                "note": {"type": "string", "nullable": True},
            },
            "required": ["word", "count"],
        },
    ),
    Tool("write", parameters={"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}),
    Tool("free", parameters={"type": "object", "properties": {"x": {"type": "string"}, "y": {"type": "number"}}}),
    Tool("none"),
)
_PLAIN = [
    "",
    " ",
    "x",
    "a b",
    "1",
    "true",
    "null?",
    "é 你好",
    "{'a': 1}",
    "a < b > c",
    "<b>bold</b>",
    "[1",
    '"q"',
    "a\n\nb",
]
_TAGGED = [
    *("</parameter> x", "a</parameter>b", "<parameter", "</func", "<tool_call>", "</tool_call>"),
    *("<function=g>\n<parameter=word>\n1\n</parameter>\n</function> so", "</think>", "x </function> y"),
]


@dataclass
class Spelling:
    """A reply: pieces of text and control tokens, and what it says."""

    pieces: list[str | int]
    reasoning: str
    text: str
    calls: list[tuple[str, dict[str, Any]]]

    def ids(self, tokenizer: Tokenizer, rng: random.Random) -> list[int]:
        """Its tokens. Some texts are split into single bytes."""
        single = {tokenizer.token_bytes(token_id): token_id for token_id in range(256)}
        ids: list[int] = []
        texts = [""]
        for piece in self.pieces:
            if isinstance(piece, int):
                texts.append("")
                ids += _split(tokenizer.encode_text(texts[-2]), tokenizer, single, rng)
                ids.append(piece)
            else:
                texts[-1] += piece
        return ids + _split(tokenizer.encode_text(texts[-1]), tokenizer, single, rng)


def _split(ids: list[int], tokenizer: Tokenizer, single: dict[bytes, int], rng: random.Random) -> list[int]:
    share = rng.choice([0.0, 0.3, 1.0])
    found: list[int] = []
    for token_id in ids:
        if rng.random() < share:
            found += [single[bytes([byte])] for byte in tokenizer.token_bytes(token_id)]
        else:
            found.append(token_id)
    return found


class Spellings:
    """Draws spellings.

    Args:
        tokenizer: knows the ids of control tokens.
    """

    def __init__(self, seed: int, tokenizer: Tokenizer) -> None:
        self._rng, self._ids, self._end_id = random.Random(seed), tokenizer.special_ids, min(tokenizer.eos_ids)
        self._gap = tokenizer.encode_text("\n\n")  # the tokens that a constraint puts behind reasoning

    def draw(self, *, thinking: bool, free: bool, parallel: bool) -> Spelling:
        """A reply with calls.

        Args:
            thinking: it begins inside reasoning.
            free: text may come before the calls.
            parallel: there may be several calls.
        """
        pick = self._rng.choice
        found = Spelling([], "", "", [])
        if thinking:
            found.reasoning = pick(["", "because", "first\nthen"])
            found.pieces.append(found.reasoning)
            if free or self._rng.random() < 0.5:
                found.pieces += [pick(["\n", ""]), self._ids["</think>"], *self._gap]
            else:
                found.pieces.append(pick(["\n", ""]))
        if free and self._rng.random() < 0.5:
            found.text = pick(["I look.", "Look: <parameter=x>"])
            found.pieces.append(found.text + pick(["\n\n", "\n", ""]))
        for number in range(self._rng.choice([1, 1, 2, 3]) if parallel else 1):
            if number:
                found.pieces.append(pick(["\n", "\n\n", ""]))
            self._call(found)
        found.pieces += [pick(["", "\n"])] if isinstance(found.pieces[-1], str) else []
        found.pieces.append(self._end_id)
        return found

    def _call(self, found: Spelling) -> None:
        tool = self._rng.choice(TOOLS)
        properties = (tool.parameters or {}).get("properties", {})
        required = (tool.parameters or {}).get("required", [])
        names = [name for name in properties if name in required or self._rng.random() < 0.5]
        self._rng.shuffle(names)
        found.pieces.append(self._ids["<tool_call>"])
        if self._rng.random() < 0.15:
            self._hermes(found, tool, names)
            return
        found.pieces.append(self._space() + f"<function={tool.name}>" + self._space())
        arguments: dict[str, Any] = {}
        is_closed = True
        for index, name in enumerate(names):
            is_last = index == len(names) - 1
            missing = [one for one in required if one not in names[: index + 1]]
            drops = self._rng.random() < 0.25
            written, arguments[name] = self._value(properties[name], drops, bool(missing), is_last, name)
            found.pieces.append(f"<parameter={name}>{written}")
            is_closed = not drops
            found.pieces.append("" if drops else "</parameter>" + self._space())
        closes_function = (is_closed and self._rng.random() < 0.8) or (not names) or self._rng.random() < 0.5
        found.pieces.append("</function>" + self._space() if closes_function else "")
        if not (closes_function and is_closed and self._rng.random() < 0.15):
            found.pieces.append(self._ids["</tool_call>"])
        found.calls.append((tool.name, arguments))

    def _hermes(self, found: Spelling, tool: Tool, names: list[str]) -> None:
        properties = (tool.parameters or {}).get("properties", {})
        arguments = {name: self._json_value(properties[name]) for name in properties if name in names}
        required = (tool.parameters or {}).get("required", [])
        arguments = {name: arguments[name] for name in [*required, *(n for n in arguments if n not in required)]}
        text = json.dumps({"name": tool.name, "arguments": arguments}, ensure_ascii=False)
        found.pieces += [self._space() + text + self._space(), self._ids["</tool_call>"]]
        found.calls.append((tool.name, arguments))

    def _space(self) -> str:
        return self._rng.choice(["\n", "\n", "", " ", "\n\n"])

    def _json_value(self, schema: dict[str, Any]) -> Any:
        if "enum" in schema:
            return self._rng.choice(schema["enum"])
        if "pattern" in schema:
            return "QX"
        return {
            "integer": 12,
            "number": -1.5,
            "boolean": True,
            "object": {"a": 'x"<y>'},
            "string": self._rng.choice([*_PLAIN, *_TAGGED]),
        }[schema["type"]]

    def _value(self, schema: dict[str, Any], drops: bool, missing: bool, is_last: bool, name: str) -> tuple[str, Any]:
        """A value as it is written, with the white space around it, and what it means."""
        pick = self._rng.choice
        if schema.get("type") == "string" and "pattern" not in schema:
            texts = _PLAIN if drops else [*_PLAIN, *_TAGGED]
            if missing:
                texts = [text for text in texts if "</function>" not in text]
            value = pick(texts)
            before = "" if not value.startswith(("\n", " ")) and self._rng.random() < 0.3 else "\n"
            after = "" if not value.endswith("\n") and (value or before) and self._rng.random() < 0.3 else "\n"
            if not value:
                before, after = pick([("\n", "\n"), ("\n", ""), ("", "")])
            return before + value + after, None if value == "null" and "nullable" in schema else value
        space = ("\n", "\n") if self._rng.random() < 0.7 else (pick(["", "\n"]), pick(["", "\n"]))
        value = self._json_value(schema)
        texts = {True: ["true", "True"], 12: ["12"], "QX": ["QX"]}.get(value) if not isinstance(value, dict) else None
        text = pick(texts) if texts else value if isinstance(value, str) else json.dumps(value)
        return space[0] + text + space[1], value
