"""Fields of a configuration: what is taken as it is, and what is refused, whatever somebody wrote."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loqal.errors import FormatError, UnsupportedError
from loqal.model.config import ExpertsConfig
from loqal.model.sizes import SIZES
from loqal.testing.checkpoints import tiny_config
from loqal.weights.fields import MAX_COUNT, Fields, check_config

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=3,
)


def fields(value: Any) -> Fields:
    return Fields({"key": value}, "the file")


@given(JSON)
def test_a_value_is_of_its_kind_or_refused(value: Any) -> None:
    found = fields(value)
    is_count = type(value) is int and 1 <= value <= MAX_COUNT
    is_real = type(value) in (int, float) and 0 < value < 1e30 and math.isfinite(value)
    kinds: list[tuple[Any, bool, Any]] = [
        (lambda: found.count("key"), is_count, value),
        (lambda: found.real("key"), is_real, value),
        (lambda: found.flag("key", True), value is None or type(value) is bool, value is not False),
        (lambda: found.table("key"), value is None or isinstance(value, dict), None),
        (lambda: found.only("key", 5, None), value is None or (type(value) is int and value == 5), None),
    ]
    for read, is_fine, expected in kinds:
        if is_fine:
            got = read()
            assert expected is None or got == expected
        else:
            with pytest.raises((FormatError, UnsupportedError), match="the file: key"):
                read()


def test_defaults_are_for_what_is_missing_only() -> None:
    empty = Fields({}, "the file")
    assert empty.count("key", 7) == 7 and empty.real("key", 0.5) == 0.5 and empty.flag("key", True) is True
    assert empty.table("key") is None and empty.counts("key") is None
    empty.only("key", 1)
    for read in (empty.count, empty.real):
        with pytest.raises(FormatError):
            read("key")
    assert fields(3).count("key", 7) == 3 and fields(0).count("key", 7, least=0) == 0
    with pytest.raises(FormatError):
        fields("3").count("key", 7)


def test_bounds_of_a_count() -> None:
    for value, is_fine in ((2, False), (3, True), (5, True), (6, False)):
        if is_fine:
            assert fields(value).count("key", least=3, most=5) == value
        else:
            with pytest.raises(FormatError):
                fields(value).count("key", least=3, most=5)


def test_lists_of_counts() -> None:
    assert fields([0, 1, MAX_COUNT]).counts("key") == (0, 1, MAX_COUNT)
    assert fields(np.array([1, 2])).counts("key") == (1, 2)
    for value in ("12", [1.0], [True], [-1], [MAX_COUNT + 1], [[1]], 5, {"a": 1}):
        with pytest.raises(FormatError):
            fields(value).counts("key")


def test_a_table_says_where_it_stands() -> None:
    inner = fields({"x": "y"}).table("key")
    assert inner is not None
    with pytest.raises(FormatError, match="the file: key: x"):
        inner.count("x")


def test_one_and_true_are_not_the_same() -> None:
    fields(1).only("key", 1)
    for value in (True, 1.0, "1"):
        with pytest.raises(UnsupportedError):
            fields(value).only("key", 1)


def test_long_values_are_cut_in_messages() -> None:
    with pytest.raises(FormatError) as caught:
        fields("x" * 100_000).count("key")
    assert len(str(caught.value)) < 1000


# Whole configurations -------------------------------------------------------------------------------------------------

PLAIN = tiny_config()
VISION = tiny_config(vision=True)
assert VISION.vision is not None


@pytest.mark.parametrize("size", SIZES)
def test_published_sizes_are_fine(size: str) -> None:
    assert check_config(SIZES[size], "x") is SIZES[size]


def vision(**change: Any) -> Any:
    return replace(VISION, vision=replace(VISION.vision, **change))  # type: ignore[type-var]


@pytest.mark.parametrize(
    "config",
    [
        replace(PLAIN, layers=("delta",) * 1025),
        replace(PLAIN, num_heads=3, num_kv_heads=2),
        replace(PLAIN, num_value_heads=5),
        replace(PLAIN, num_draft_layers=2),
        replace(PLAIN, rope=replace(PLAIN.rope, rotary_dim=PLAIN.head_dim + 2)),
        replace(PLAIN, rope=replace(PLAIN.rope, rotary_dim=PLAIN.rope.rotary_dim - 1)),
        replace(PLAIN, rope=replace(PLAIN.rope, sections=(1, 1, 1))),
        replace(PLAIN, experts=ExpertsConfig(4, 5, 32, 32)),
        replace(PLAIN, experts=ExpertsConfig(1025, 2, 32, 32)),
        vision(depth=1025),
        vision(out_width=32),
        vision(num_heads=3),
        vision(num_positions=63),
        vision(patch_size=1025),
        vision(merge_size=65),
    ],
)
def test_numbers_that_do_not_fit_each_other(config: Any) -> None:
    with pytest.raises(UnsupportedError):
        check_config(config, "x")


@pytest.mark.parametrize(
    "config",
    [
        replace(PLAIN, layers=("delta",) * 1024),
        replace(PLAIN, experts=ExpertsConfig(1024, 1024, 32, 32)),
        replace(PLAIN, num_draft_layers=1),
        vision(depth=1024, patch_size=1024, merge_size=64),
        VISION,
    ],
)
def test_the_largest_numbers(config: Any) -> None:
    assert check_config(config, "x") is config
