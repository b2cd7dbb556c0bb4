"""The values that sampling parameters allow, from their fields' metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any

import pytest
from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from loqal.errors import RequestError
from loqal.types.sampling import RANGES, SamplingParams, bounds, check


def with_value(name: str, value: Any) -> SamplingParams:
    return SamplingParams(**{name: value})


def test_every_field_has_a_help_text_and_every_number_a_range() -> None:
    for entry in fields(SamplingParams):
        assert entry.metadata["help"]
        assert (str(entry.type) in ("int | None", "float | None")) == (entry.name in RANGES), entry.name
        if entry.name in RANGES:
            assert RANGES[entry.name].whole == (entry.type == "int | None"), entry.name


@pytest.mark.parametrize("name", sorted(RANGES))
def test_every_range_admits_its_ends_and_nothing_outside(name: str) -> None:
    limit = RANGES[name]
    check(with_value(name, limit.low + (1 if limit.whole else 0.5) * limit.above))
    for value in (limit.low - 1, limit.high + 1, float("nan"), "1", True, *([limit.low] if limit.above else [])):
        if value != float("inf"):
            with pytest.raises(RequestError, match=name):
                check(with_value(name, value))
    if limit.high != float("inf"):
        check(with_value(name, limit.high))


@pytest.mark.parametrize("name", sorted(RANGES))
def test_bounds_are_the_range_as_pydantic_reads_it(name: str) -> None:
    limit = RANGES[name]
    adapter = TypeAdapter(Annotated[int if limit.whole else float, FieldInfo(**bounds(name))])
    for value in (limit.low, limit.low - 1, limit.low + (1 if limit.whole else 0.5), limit.high, limit.high + 1):
        if value == float("inf"):
            continue
        is_in = limit.admits(value)
        try:
            adapter.validate_python(value)
        except ValidationError:
            assert not is_in, value
        else:
            assert is_in, value


def test_stops_are_checked() -> None:
    for params in (SamplingParams(stop=("",)), SamplingParams(stop="abc"), SamplingParams(stop_token_ids=("1",))):  # type: ignore[arg-type]
        with pytest.raises(RequestError, match="stop"):
            check(params)


@pytest.mark.parametrize("biases", [{1: 101.0}, {True: 1.0}, {"1": 1.0}, [1], dict.fromkeys(range(1025), 0.0)])
def test_biases_are_checked(biases: Mapping[int, float]) -> None:
    with pytest.raises(RequestError, match="logit_bias"):
        check(SamplingParams(logit_bias=biases))
