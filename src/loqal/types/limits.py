"""The values sampling parameters may have, checked before anything is loaded or computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from loqal.errors import RequestError
from loqal.types.records import SamplingParams

MAX_LOGPROBS = 64
MAX_BIASES = 1024


@dataclass(frozen=True, slots=True)
class Limit:
    """Numbers from ``low`` (without it when ``above``) to ``high``."""

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


LIMITS = {
    "max_tokens": Limit(1, whole=True),
    "min_tokens": Limit(0, whole=True),
    "temperature": Limit(0, 100),
    "top_k": Limit(0, whole=True),
    "top_p": Limit(0, 1, above=True),
    "min_p": Limit(0, 1),
    "presence_penalty": Limit(-10, 10),
    "frequency_penalty": Limit(-10, 10),
    "repetition_penalty": Limit(0, 10, above=True),
    "seed": Limit(-(2**63), 2**64 - 1, whole=True),
    "logprobs": Limit(0, MAX_LOGPROBS, whole=True),
}


_BIAS = Limit(-100, 100)


def check(params: SamplingParams) -> None:
    """Raise RequestError, naming parameter, value and range, when a given value cannot be used."""
    for name, limit in LIMITS.items():
        value = getattr(params, name)
        if value is not None and not limit.admits(value):
            raise RequestError(f"{name} is {value!r}.", f"It must be {limit}.", f"Choose {name} in that range.")
    for name, kind in (("stop", str), ("stop_token_ids", int)):
        values = getattr(params, name)
        if isinstance(values, (str, bytes)) or not all(isinstance(value, kind) for value in values):
            raise RequestError(f"{name} is {values!r}.", f"It must be a sequence of {kind.__name__}.", "Use a tuple.")
    _check_biases(params.logit_bias)
    if "" in params.stop:
        raise RequestError("stop holds an empty text.", "Every reply begins with it.", "Leave the empty text out.")


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
