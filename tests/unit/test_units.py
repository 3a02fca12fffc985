from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsd_tasks.domain.units import (
    parse_duration,
    parse_future,
    parse_past,
    parse_size,
    print_age,
    print_duration,
    print_size,
    print_time,
    print_took,
)

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("1.5", 1.5),
        ("45s", 45),
        ("30m", 1800),
        ("1h30m", 5400),
        ("2d", 172800),
        ("1D2H", 93600),
        (" 5s ", 5),
    ],
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", " ", "m", "30x", "-5", "30m1h", "1h 30m", "nan", "inf", "1e9", "٣s", "9999d", "1m\n2s"]
)
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"write|ten years"):
        parse_duration(text)


@given(st.integers(0, 10 * 365 * 86400 * 1000))
def test_a_printed_duration_reads_back_the_same(milliseconds: int) -> None:
    assert round(parse_duration(print_duration(milliseconds / 1000)) * 1000) == milliseconds


@pytest.mark.parametrize(
    ("text", "size"),
    [("4096", 4096), ("512kB", 512_000), ("10MB", 10**7), ("1GiB", 2**30), ("1.5 gib", 3 * 2**29), ("0b", 0)],
)
def test_a_size_is_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "10M", "ib", "1iB", "-1", "1e3", "10 MB MB", "9999999TB"])
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"write|exbibyte"):
        parse_size(text)


@given(st.integers(0, 2**60))
def test_a_printed_size_reads_back_the_same(size: int) -> None:
    assert parse_size(print_size(size)) == size


def test_relative_times_go_back_for_since_and_ahead_for_run_at() -> None:
    assert parse_past("10m", NOW) == NOW - timedelta(minutes=10)
    assert parse_future("10m", NOW) == NOW + timedelta(minutes=10)
    assert parse_future("+90", NOW) == NOW + timedelta(seconds=90)


@pytest.mark.parametrize("text", ["2026-11-21T18:00+02:00", "2026-11-21T16:00Z", "20261121T160000Z"])
def test_an_iso_time_with_a_zone_is_that_moment(text: str) -> None:
    assert parse_future(text, NOW) == datetime(2026, 11, 21, 18, 0, tzinfo=timezone(timedelta(hours=2)))


def test_an_iso_time_without_a_zone_is_local() -> None:
    local = datetime(2026, 7, 1, 18, 0).astimezone()
    assert parse_past("2026-07-01T18:00", NOW) == local
    assert parse_past("2026-07-01 18:00", NOW).tzinfo is not None


@pytest.mark.parametrize("text", ["", "yesterday", "-5m", "2026-13-01", "25:00"])
def test_what_is_no_time_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="write"):
        parse_past(text, NOW)


def test_times_are_printed_in_utc_with_one_width() -> None:
    assert print_time(NOW.astimezone(timezone(timedelta(hours=5)))) == "2026-11-21T12:00:00.000Z"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0s"), (0.9, "0s"), (119, "119s"), (120, "2m"), (7199, "119m"), (7200, "2h"), (86400 * 3, "3d")],
)
def test_an_age_is_short(seconds: float, text: str) -> None:
    assert print_age(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.25, "0.25s"), (9.999, "10.0s"), (12.34, "12.3s"), (62, "1m02s"), (3720, "1h02m")]
)
def test_what_something_took_is_as_precise_as_is_of_use(seconds: float, text: str) -> None:
    assert print_took(seconds) == text


@given(st.floats(0, 10**9))
def test_every_duration_can_be_printed(seconds: float) -> None:
    assert re.fullmatch(r"[\d.]+[smhd](\d\d[ms])?", print_took(seconds))
    assert re.fullmatch(r"\d+[smhd]", print_age(seconds))
