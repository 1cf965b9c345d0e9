"""Which times a history accepts; the edges belong to it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from fleet_core.rules.plausible import Window
from tests.fixtures.store import NOW

WINDOW = Window(past_limit_days=2, future_limit_s=60)
TICK = timedelta(microseconds=1)


def test_the_edges_are_inside_and_a_microsecond_beyond_is_outside() -> None:
    earliest, latest = NOW - timedelta(days=2), NOW + timedelta(seconds=60)
    assert WINDOW.holds(earliest, NOW)
    assert WINDOW.holds(latest, NOW)
    assert not WINDOW.holds(earliest - TICK, NOW)
    assert not WINDOW.holds(latest + TICK, NOW)


@pytest.mark.parametrize("year", [1, 1970, 2100, 9999])
def test_an_impossible_year_is_outside(year: int) -> None:
    assert not Window().holds(datetime(year, 1, 1, tzinfo=UTC), NOW)


@pytest.mark.parametrize("hours", [-23, -12, 14, 23])
@pytest.mark.parametrize(
    "at", [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)], ids=str
)
def test_the_ends_of_the_calendar_in_any_zone_are_outside_and_never_an_error(
    at: datetime, hours: int
) -> None:
    assert not Window().holds(at.replace(tzinfo=timezone(timedelta(hours=hours))), NOW)


def test_the_same_moment_in_another_zone_is_the_same_moment() -> None:
    there = NOW.astimezone(timezone(timedelta(hours=14)))
    assert Window(0, 0).holds(there, NOW)
