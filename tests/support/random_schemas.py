"""Random JSON schemas, and replies of a model whose logits are random, held to them."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np

from loqal.chat.tokens.tokenizer import Tokenizer
from loqal.engine import sampling
from loqal.engine.sampling.constraint import TokenConstraint
from loqal.engine.sequence import Sequence
from loqal.types.reply import FinishReason
from loqal.types.sampling import SamplingParams

_WORDS = ["a", "name", "x y", "é", "n/m", 'q"', "kind", "items", "0"]
_PATTERNS = ["^[a-c]+$", "b", "^x", "^[0-9]{2}$", "^(on|off)$", "^[^ ]+ [^ ]+$"]
_FORMATS = ["date", "time", "date-time", "uuid", "ipv4", "ipv6", "email", "hostname", "uri", "duration"]


class Schemas:
    """Draws schemas. Everything in them can be enforced, though some accept nothing."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)

    def draw(self) -> Any:
        """A whole schema, some with definitions that refer to themselves."""
        schema = self._schema(3)
        if self._rng.random() < 0.2 and isinstance(schema, dict):
            inner = self._schema(1)
            node = {
                "type": "object",
                "properties": {"value": inner, "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/node"}]}},
                "required": ["value", "next"],
                "additionalProperties": False,
            }
            schema = {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 2, "$defs": {"node": node}}
        return schema

    def arguments(self) -> dict[str, Any]:
        """The schema of a tool's arguments."""
        schema: dict[str, Any] = {**self._object(2), "additionalProperties": False}
        schema.pop("patternProperties", None)
        return schema

    def _schema(self, depth: int) -> Any:
        kinds: list[Callable[[int], Any]] = [self._string, self._number, self._fixed, self._plain]
        if depth:
            kinds += [self._object, self._object, self._object, self._array, self._array, self._choice, self._all]
        schema = self._rng.choice(kinds)(depth)
        if self._rng.random() < 0.2 and isinstance(schema, dict):
            schema = {**schema, "title": "T", "description": "d", "default": None}
        return schema

    def _bounds(self, low: str, high: str, most: int) -> dict[str, int]:
        first, second = sorted((self._rng.randint(0, most), self._rng.randint(0, most)))
        return {key: value for key, value in ((low, first), (high, second)) if self._rng.random() < 0.5}

    def _string(self, depth: int) -> Any:
        roll = self._rng.random()
        if roll < 0.2:
            return {"type": "string", "pattern": self._rng.choice(_PATTERNS)}
        if roll < 0.4:
            return {"type": "string", "format": self._rng.choice(_FORMATS)}
        return {"type": "string", **self._bounds("minLength", "maxLength", 12)}

    def _number(self, depth: int) -> Any:
        bounds = {}
        if self._rng.random() < 0.5:
            low = self._rng.randint(-50, 50)
            bounds[self._rng.choice(["minimum", "exclusiveMinimum"])] = low
            if self._rng.random() < 0.7:
                bounds[self._rng.choice(["maximum", "exclusiveMaximum"])] = low + self._rng.randint(2, 200)
        elif self._rng.random() < 0.3:
            bounds["multipleOf"] = self._rng.choice([2, 5, 10])
        return {"type": self._rng.choice(["integer", "number"]), **bounds}

    def _fixed(self, depth: int) -> Any:
        values = [1, -2.5, "a", 'q"\n', None, True, {"k": [1, "é"]}, [], "longer text"]
        if self._rng.random() < 0.5:
            return {"const": self._rng.choice(values)}
        return {"enum": self._rng.sample(values, self._rng.randint(1, 4))}

    def _plain(self, depth: int) -> Any:
        return self._rng.choice(
            [{"type": "boolean"}, {"type": "null"}, {"type": ["string", "null"]}, {"type": ["integer", "boolean"]}]
        )

    def _object(self, depth: int) -> Any:
        names = self._rng.sample(_WORDS, self._rng.randint(0, 4))
        schema: dict[str, Any] = {"type": "object", "properties": {name: self._schema(depth - 1) for name in names}}
        schema["required"] = [name for name in names if self._rng.random() < 0.6]
        roll = self._rng.random()
        if roll < 0.6:
            schema["additionalProperties"] = False
        elif roll < 0.8:
            schema["additionalProperties"] = self._schema(0)
        elif roll < 0.9:
            schema["patternProperties"] = {"^p_": self._schema(0)}
            schema["additionalProperties"] = False
        return schema

    def _array(self, depth: int) -> Any:
        schema: dict[str, Any] = {"type": "array", "items": self._schema(depth - 1)}
        if self._rng.random() < 0.3:
            schema["prefixItems"] = [self._schema(depth - 1) for _ in range(self._rng.randint(1, 2))]
            schema["items"] = self._rng.choice([False, schema["items"]])
        return {**schema, **self._bounds("minItems", "maxItems", 4)}

    def _choice(self, depth: int) -> Any:
        return {"anyOf": [self._schema(depth - 1) for _ in range(self._rng.randint(1, 3))]}

    def _all(self, depth: int) -> Any:
        first = self._object(1)
        return {"allOf": [first, {"type": "object", "required": list(first["properties"])[:1]}]}


class Row:
    """Logits that are all there."""

    def __init__(self, row: Any) -> None:
        self._row = row

    def top_k(self, k: int) -> Any:
        ids, logits, _ = candidates(self._row, k)
        return ids, logits

    def row(self) -> Any:
        return self._row


def candidates(row: Any, k: int) -> tuple[Any, Any, float]:
    """``ops.candidates`` as far as sampling needs it here."""
    order = np.array([row.argmax()]) if k == 1 else np.argsort(-row, kind="stable")[:k]
    return order.astype(np.int32), row[order], 0.0


_VALUE_END = b"\n</parameter>\n"


def _ends_of_values(tokenizer: Tokenizer) -> list[list[int]]:
    """For every number of bytes of the end of a value, the tokens that continue it."""
    tokens = tokenizer.all_bytes()
    return [
        [token_id for token_id, token in enumerate(tokens) if token and _VALUE_END[done:].startswith(token)]
        for done in range(len(_VALUE_END))
    ]


def random_reply(
    guide: TokenConstraint | None, tokenizer: Tokenizer, seed: int, max_tokens: int
) -> tuple[list[int], bool]:
    """A reply of a model that has no idea, which likes to close what is open; and whether it ended by itself."""
    params = SamplingParams(
        max_tokens=max_tokens,
        temperature=0.0,
        top_k=0,
        top_p=1.0,
        min_p=0.0,
        presence_penalty=0.0,
        frequency_penalty=0.0,
        repetition_penalty=1.0,
        seed=seed,
    )
    rng = np.random.default_rng(seed)
    closing = np.array([3.0 * (token[:1] in (b'"', b"}", b"]", b"<")) for token in tokenizer.all_bytes()], np.float32)
    closing[sorted(tokenizer.eos_ids)] = 2.0
    ends, tail = _ends_of_values(tokenizer), b""
    sequence = Sequence([0], params, tokenizer.eos_ids, guide=guide)
    while True:
        row = rng.normal(0, 2, tokenizer.vocab_len).astype(np.float32) + closing
        row[ends[max(n for n in range(len(ends)) if tail.endswith(_VALUE_END[:n]))]] += 9
        token_id = sampling.choose(
            Row(row),
            params,
            candidates,
            seed=seed,
            position=len(sequence.token_ids),
            counted=sequence.counted,
            allowed=sequence.allowed(),
        )
        tail = (tail + tokenizer.token_bytes(token_id))[-len(_VALUE_END) :]
        reason = sequence.append(token_id, 1 << 30)
        if reason is not None:
            return sequence.token_ids[1:], reason is FinishReason.STOP
