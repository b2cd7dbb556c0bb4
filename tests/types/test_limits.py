"""The values that sampling parameters may have."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from loqal.types.limits import LIMITS, MAX_BIASES, MAX_LOGPROBS, Limit, check

from loqal.errors import RequestError
from loqal.types.sampling import SamplingParams

STRANGE = [True, "1", b"1", [1], math.nan, object()]


@pytest.mark.parametrize("name", LIMITS)
def test_every_limit_holds_at_its_ends(name: str) -> None:
    limit = LIMITS[name]
    step = 1 if limit.whole else 1e-6
    inside = [limit.low + step if limit.above else limit.low]
    outside: list[Any] = [limit.low if limit.above else limit.low - step, *STRANGE]
    if limit.high != math.inf:
        inside.append(limit.high)
        outside.append(limit.high + max(step, math.ulp(limit.high)) if not limit.whole else limit.high + 1)
    if limit.whole:
        outside.append(1.5)
    for value in inside:
        check(SamplingParams(**{name: value}))
    for value in outside:
        with pytest.raises(RequestError, match=name):
            check(SamplingParams(**{name: value}))


def test_every_number_among_the_parameters_has_a_limit() -> None:
    numbers = {
        field.name
        for field in dataclasses.fields(SamplingParams)
        if "int" in str(field.type) or "float" in str(field.type)
    }
    assert numbers - {"logit_bias", "stop_token_ids"} == set(LIMITS)


def test_a_range() -> None:
    limit = Limit(0, 1, above=True)
    assert [limit.admits(value) for value in (0, 0.5, 1, 1.5, -1)] == [False, True, True, False, False]
    assert Limit(0, whole=True).admits(10**30) and not Limit(0, whole=True).admits(1.0)
    assert LIMITS["logprobs"].high == MAX_LOGPROBS


@pytest.mark.parametrize(
    "change",
    [
        {"stop": "word"},
        {"stop": b"word"},
        {"stop": (1,)},
        {"stop": ("a", "")},
        {"stop_token_ids": ("1",)},
        {"stop_token_ids": (1.0,)},
        {"logit_bias": [(1, 2)]},
        {"logit_bias": dict.fromkeys(range(MAX_BIASES + 1), 1.0)},
        {"logit_bias": {1: 100.1}},
        {"logit_bias": {1: -100.1}},
        {"logit_bias": {"1": 1.0}},
        {"logit_bias": {True: 1.0}},
        {"logit_bias": {1: math.nan}},
    ],
)
def test_what_is_no_parameter(change: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=next(iter(change)).split("_")[0]):
        check(SamplingParams(**change))


def test_what_is_fine() -> None:
    check(SamplingParams())
    check(SamplingParams(stop=("a", "b"), stop_token_ids=(1, 2)))
    check(SamplingParams(logit_bias={**dict.fromkeys(range(MAX_BIASES - 1), 100), 5000: -100.0}))
