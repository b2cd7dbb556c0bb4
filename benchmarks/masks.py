"""What it costs to hold a reply to a form, over a vocabulary of the published length.

    python benchmarks/masks.py

For each form: the time to compile it, and for every token the time of the mask and of choosing under it. The tokens are
drawn from random logits that like to close what is open, so that many places of a form are visited.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from loqal.chat.constraints.reply_automaton import ReplyConstraint
from loqal.chat.constraints.rules import ConstraintBuilder
from loqal.chat.tokens.tokenizer import Tokenizer
from loqal.engine import sampling
from loqal.engine.sampling.choose import TokenCounts
from loqal.engine.sampling.constraint import allow
from loqal.testing.vocabularies import large_vocabulary
from loqal.types.reply_options import AnswerFormat, Grammar, JsonSchema, OneOf, Regex, ReplyOptions, Tool
from loqal.types.sampling import SamplingParams

sys.path.insert(0, str(Path(__file__).parent.parent / "tests/support"))
from random_schemas import Row, candidates

_PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "minimum": 0},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 40}},
        "kind": {"enum": ["cat", "dog", "bird"]},
        "born": {"type": "string", "format": "date"},
    },
    "required": ["name", "age", "tags", "kind", "born"],
    "additionalProperties": False,
}
FORMS: dict[str, AnswerFormat | None] = {
    "JSON schema": JsonSchema(_PERSON),
    "any JSON object": JsonSchema(),
    "expression of words": Regex(r"([a-z]{1,12} ){5,60}[0-9]+\."),
    "expression of anything": Regex(r"(?s:.{20,400})end"),
    "grammar": Grammar('start: expr\nexpr: term (("+" | "-") term)*\nterm: /[a-z]+/ | /[0-9]+/ | "(" expr ")"'),
    "choice of 200": OneOf(tuple(f"option number {i}" for i in range(200))),
    "tools": None,
}
_GREEDY = SamplingParams(
    temperature=0.0,
    top_k=20,
    top_p=1.0,
    min_p=0.0,
    presence_penalty=0.0,
    frequency_penalty=0.0,
    repetition_penalty=1.0,
    seed=0,
)


def main() -> None:
    """Print one line per form."""
    started = time.perf_counter()
    tokenizer = Tokenizer.from_gguf(large_vocabulary())
    print(f"{tokenizer.vocab_len:,} tokens, made in {time.perf_counter() - started:.1f} s")
    rules = ConstraintBuilder(tokenizer)
    started = time.perf_counter()
    rules.guides(ReplyOptions(answer=OneOf(("a",))), thinking=False, room=9)
    print(f"tree of the vocabulary: {time.perf_counter() - started:.2f} s, once")
    closing = np.array([3.0 * (token[:1] in (b'"', b"}", b"]", b")")) for token in tokenizer.all_bytes()], np.float32)
    for name, form in FORMS.items():
        turn = (
            ReplyOptions(answer=form)
            if form
            else ReplyOptions(tools=(Tool("f", parameters=_PERSON),), tool_choice="required")
        )
        _report(name, rules, turn, closing)


def _report(name: str, rules: ConstraintBuilder, turn: ReplyOptions, closing: np.ndarray) -> None:
    started = time.perf_counter()
    make = rules.guides(turn, thinking=False, room=9)
    compiled_ms = (time.perf_counter() - started) * 1e3
    masks, draws = _follow(rules, make, closing, 1000, beside_s=0.0)
    waits, _ = _follow(rules, make, closing, 500, beside_s=0.01)
    low, high = np.percentile(masks, [50, 99])
    print(
        f"{name:24} compiled in {compiled_ms:6.2f} ms; mask and push: mean {np.mean(masks):.3f} ms, "
        f"median {low:.3f}, p99 {high:.3f}, most {max(masks):.3f}; beside a step of 10 ms: mean {np.mean(waits):.3f}, "
        f"p99 {np.percentile(waits, 99):.3f}; choosing {np.median(draws):.2f} ms",
        flush=True,
    )


def _follow(
    rules: ConstraintBuilder,
    make: Callable[[], ReplyConstraint | None],
    closing: np.ndarray,
    num_tokens: int,
    *,
    beside_s: float,
) -> tuple[list[float], list[float]]:
    """Milliseconds for masks and pushes, and for choosing; the masks are found beside something that takes a while."""
    rng = np.random.default_rng(0)
    masks: list[float] = []
    draws: list[float] = []
    while len(masks) < num_tokens:
        guide = make()
        assert guide is not None
        for position in range(200):
            row = rng.normal(0, 2, len(closing)).astype(np.float32) + closing
            if beside_s and position:
                guide.prepare()
                time.sleep(beside_s)
            started = time.perf_counter()
            mask = guide.mask()
            found = time.perf_counter()
            token_id = sampling.choose(
                Row(row),
                _GREEDY,
                candidates,
                seed=0,
                position=position,
                counted=TokenCounts(),
                allowed=allow(mask, np.empty(0, np.int32)),
            )
            chosen = time.perf_counter()
            guide.push(token_id)
            masks.append((found - started + time.perf_counter() - chosen) * 1e3)
            draws.append((chosen - found) * 1e3)
            if token_id in rules.end_ids:
                break
    return masks, draws


if __name__ == "__main__":
    main()
