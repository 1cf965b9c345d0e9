"""Since when devices are heard without a gap."""

from __future__ import annotations

from fleet_core.runtime.hearing import FRESH_S, Hearing
from tests.fixtures.store import seconds


def test_before_it_begins_and_in_a_gap_nobody_listens() -> None:
    hearing = Hearing()
    assert hearing.since(seconds(0)) is None
    hearing.begin(seconds(1))
    hearing.interrupt()
    assert hearing.since(seconds(2)) is None
    hearing.begin(seconds(3))
    assert hearing.since(seconds(4)) == seconds(3)


def test_told_in_time_it_goes_on_for_ever() -> None:
    hearing = Hearing()
    hearing.begin(seconds(0))
    for n in range(1, 20):
        assert hearing.since(seconds(n * FRESH_S)) == seconds(0)


def test_a_pause_of_the_whole_process_is_a_gap() -> None:
    hearing = Hearing()
    hearing.begin(seconds(0))
    assert hearing.since(seconds(5)) == seconds(0)
    assert hearing.since(seconds(5 + FRESH_S + 0.1)) == seconds(5 + FRESH_S + 0.1)


def test_a_clock_that_goes_back_is_no_gap() -> None:
    hearing = Hearing()
    hearing.begin(seconds(100))
    assert hearing.since(seconds(40)) == seconds(100)
    assert hearing.since(seconds(45)) == seconds(100)
