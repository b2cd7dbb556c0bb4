"""The expressions of formats match what the standard library reads."""

from __future__ import annotations

import datetime
import ipaddress
import itertools
import re
import uuid
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loqal.chat.constraints.string_formats import FORMAT_PATTERNS, LIBRARY_FORMATS, TEXT_PATTERNS


def matches(name: str, text: str) -> bool:
    return re.fullmatch({**TEXT_PATTERNS, **FORMAT_PATTERNS}[name], text) is not None


def is_read(read: Callable[[str], object], text: str) -> bool:
    try:
        read(text)
    except ValueError:
        return False
    return True


def test_dates_exist() -> None:
    years = (0, 1, 4, 9, 10, 99, 100, 400, 1000, 1896, 1900, 1999, 2000, 2023, 2024, 2100, 9999)
    for year, month, day in itertools.product(years, range(14), range(33)):
        text = f"{year:04}-{month:02}-{day:02}"
        assert matches("date", text) == is_read(datetime.date.fromisoformat, text), text
    assert not any(matches("date", text) for text in ("2024-1-01", "24-01-01", "20240101", "2024-W01-1", ""))


@given(st.times(), st.integers(-1439, 1439), st.dates())
@settings(max_examples=100, deadline=None, derandomize=True)
def test_times_exist(time: datetime.time, minutes: int, date: datetime.date) -> None:
    offset = datetime.timezone(datetime.timedelta(minutes=minutes))
    for zoned in (time.replace(tzinfo=offset), time.replace(tzinfo=datetime.UTC)):
        assert matches("time", zoned.isoformat())
        assert matches("date-time", f"{date.isoformat()}T{zoned.isoformat()}")
    assert matches("time", time.isoformat() + "Z") and not matches("time", time.isoformat())


@pytest.mark.parametrize("text", ["24:00:00Z", "12:60:00Z", "12:00:61Z", "12:00Z", "12:00:00.Z", "12:00:00+24:00"])
def test_times_that_do_not_exist(text: str) -> None:
    assert not matches("time", text) and not matches("date-time", f"2024-01-01T{text}")


@pytest.mark.parametrize(
    ("name", "read"), [("ipv4", ipaddress.IPv4Address), ("ipv6", ipaddress.IPv6Address), ("uuid", uuid.UUID)]
)
def test_what_matches_is_read(name: str, read: Callable[[str], object]) -> None:
    @given(st.from_regex(re.compile(TEXT_PATTERNS[name].replace("$", r"\Z"), re.ASCII)))
    @settings(max_examples=200, deadline=None, derandomize=True)
    def check(text: str) -> None:
        read(text)

    check()


@given(st.ip_addresses(v=4), st.ip_addresses(v=6), st.uuids())
@settings(max_examples=200, deadline=None, derandomize=True)
def test_what_is_written_matches(four: ipaddress.IPv4Address, six: ipaddress.IPv6Address, name: uuid.UUID) -> None:
    assert matches("ipv4", str(four)) and matches("uuid", str(name))
    assert matches("ipv6", six.compressed) and matches("ipv6", six.exploded)


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("email", ("a@b", "a.b+c@d-e.example"), ("a", "@b", "a@", "a..b@c", "a@b@c", "a b@c", "a@-b")),
        ("hostname", ("a", "a-b.c1", "a" * 63), ("", "-a", "a-", "a..b", "a" * 64, "a_b")),
        ("uri", ("http://a/b?c#d", "urn:x:1", "a:%20"), ("", "a", "1:b", "a b:c", "a:%2", "a:#b#c")),
        ("uri-reference", ("", "a", "/b?c", "http://a"), ("a b", "é", "<a>")),
        ("duration", ("P1D", "P1Y2M3DT4H5M6S", "PT1M", "P2W"), ("", "P", "PT", "P1", "P1DT", "P1H", "P1W1D", "1D")),
    ],
)
def test_other_formats(name: str, right: tuple[str, ...], wrong: tuple[str, ...]) -> None:
    assert all(matches(name, text) for text in right)
    assert not any(matches(name, text) for text in wrong)


def test_every_format_has_one_expression() -> None:
    """Those that the library knows have one of ours for strings without quotes."""
    assert set(TEXT_PATTERNS) == LIBRARY_FORMATS and not LIBRARY_FORMATS & set(FORMAT_PATTERNS)
