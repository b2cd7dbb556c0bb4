"""Sampling parameters: one record whose fields carry their help text and the values they allow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from loqal.errors import RequestError

MAX_LOGPROBS = 64
MAX_BIASES = 1024


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from ``low`` to ``high``; with ``above``, ``low`` itself is not one of them."""

    low: float
    high: float = float("inf")
    above: bool = False
    whole: bool = False

    def admits(self, value: object) -> bool:
        """Whether a value is a number of the right kind in the range."""
        if isinstance(value, bool) or not isinstance(value, int if self.whole else (int, float)):
            return False
        return (self.low < value if self.above else self.low <= value) and value <= self.high

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        low = f"{'above' if self.above else 'from'} {self.low:,}"
        return f"{kind} {low}" + ("" if self.high == float("inf") else f" to {self.high:,}")


def _whole(help: str, low: int, high: float = float("inf")) -> Any:
    return field(default=None, metadata={"help": help, "range": Range(low, high, whole=True)})


def _number(help: str, low: float, high: float = float("inf"), *, above: bool = False) -> Any:
    return field(default=None, metadata={"help": help, "range": Range(low, high, above)})


def _items(help: str, kind: type) -> Any:
    return field(default=(), metadata={"help": help, "items": kind})


def _other(help: str, default: Any) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How tokens are chosen. ``None`` means: the model card's value for this size and mode.

    The defaults of the family are in ``chat.defaults``; ``resolve`` there fills every ``None``.
    """

    max_tokens: int | None = _whole("maximum number of tokens to generate (default: until the context is full)", 1)
    min_tokens: int | None = _whole("minimum number of tokens before an end token is allowed", 0)
    temperature: float | None = _number("0 picks the most likely token; higher values are more varied", 0, 100)
    top_k: int | None = _whole("sample from the k most likely tokens; 0 disables", 0)
    top_p: float | None = _number(
        "sample from the smallest set of most likely tokens whose probabilities sum to p", 0, 1, above=True
    )
    min_p: float | None = _number("drop tokens less likely than this fraction of the most likely token", 0, 1)
    presence_penalty: float | None = _number("subtracted once from every token already generated", -10, 10)
    frequency_penalty: float | None = _number("subtracted per occurrence of a generated token", -10, 10)
    repetition_penalty: float | None = _number(
        "divides the logit of every generated token; 1 disables", 0, 10, above=True
    )
    logit_bias: Mapping[int, float] | None = _other("added to the logit of a token; may be given several times", None)
    penalize_prompt: bool = _other("apply the penalties to the tokens of the prompt too", False)
    seed: int | None = _whole("seed of the sampling noise (default: random, and reported)", -(2**63), 2**64 - 1)
    stop: tuple[str, ...] = _items("end the reply before this text; may be given several times", str)
    stop_token_ids: tuple[int, ...] = _items("further ids that end the reply; may be given several times", int)
    logprobs: int | None = _whole(
        "report the log probabilities of the chosen token and the n most likely ones", 0, MAX_LOGPROBS
    )
    ignore_eos: bool = _other("continue past the end tokens (for benchmarks)", False)


RANGES: Mapping[str, Range] = {
    entry.name: entry.metadata["range"] for entry in fields(SamplingParams) if "range" in entry.metadata
}
_BIAS = Range(-100, 100)


def bounds(name: str) -> dict[str, float]:
    """The range of a parameter under pydantic's names: ``ge`` or ``gt``, and ``le`` where there is an upper end.

    >>> bounds("top_p"), bounds("top_k")
    ({'gt': 0, 'le': 1}, {'ge': 0})
    """
    limit = RANGES[name]
    found: dict[str, float] = {"gt" if limit.above else "ge": limit.low}
    if limit.high != float("inf"):
        found["le"] = limit.high
    return found


def check(params: SamplingParams) -> None:
    """Raise RequestError, naming parameter, value and range, when a given value cannot be used."""
    for entry in fields(params):
        name, value = entry.name, getattr(params, entry.name)
        limit, kind = entry.metadata.get("range"), entry.metadata.get("items")
        if limit is not None and value is not None and not limit.admits(value):
            raise RequestError(f"{name} is {value!r}.", f"It must be {limit}.", f"Choose {name} in that range.")
        if kind is not None and (isinstance(value, (str, bytes)) or not all(isinstance(item, kind) for item in value)):
            raise RequestError(f"{name} is {value!r}.", f"It must be a sequence of {kind.__name__}.", "Use a tuple.")
    _check_biases(params.logit_bias)
    if "" in params.stop:
        raise RequestError("stop contains an empty string.", "Every reply begins with it.", "Remove the empty string.")


def _check_biases(biases: object) -> None:
    if biases is None:
        return
    if not isinstance(biases, Mapping) or len(biases) > MAX_BIASES:
        raise RequestError(
            "logit_bias cannot be used.",
            f"It must map at most {MAX_BIASES} token ids to numbers.",
            "Give a mapping such as {1234: -5.0}.",
        )
    for token_id, value in biases.items():
        if isinstance(token_id, bool) or not isinstance(token_id, int) or not _BIAS.admits(value):
            raise RequestError(
                f"logit_bias[{token_id!r}] is {value!r}.",
                f"It maps token ids to {_BIAS}.",
                "Choose a token id and a number in that range.",
            )
