from __future__ import annotations

import pytest

from device_agent.cpu import WINDOW_MIN_S, CpuTimes, CpuWindow, cpu_times


class Processors:
    """Two processors whose counters the test turns."""

    def __init__(self) -> None:
        self.now_s, self.times = 100.0, CpuTimes(50.0, 200.0)
        self.window = CpuWindow(self.now_s, lambda: self.times)

    def run(self, elapsed_s: float, busy: float) -> None:
        """Let `elapsed_s` pass, in which `busy` of the two processors work."""
        self.now_s += elapsed_s
        self.times = CpuTimes(
            self.times.busy_s + busy * elapsed_s, self.times.total_s + 2 * elapsed_s
        )

    def percent(self) -> float:
        return self.window.percent(self.now_s)


def test_the_start_of_the_agent_is_not_taken_for_the_machine_s_load() -> None:
    processors = Processors()
    processors.run(0.05, busy=2)
    assert processors.percent() == 0, "nothing is known yet, and nothing is made up"
    processors.run(0.95, busy=0)
    assert processors.percent() == pytest.approx(5)


def test_a_busy_machine_is_busy_from_the_first_answer_on() -> None:
    processors = Processors()
    processors.run(WINDOW_MIN_S, busy=2)
    assert processors.percent() == pytest.approx(100)


def test_asked_again_too_soon_the_answer_stays_and_the_window_goes_on() -> None:
    processors = Processors()
    processors.run(10, busy=1)
    assert processors.percent() == pytest.approx(50)
    processors.run(0.5, busy=2)
    assert processors.percent() == pytest.approx(50)
    processors.run(0.5, busy=0)
    assert processors.percent() == pytest.approx(50), "half of a second, all of it"
    processors.run(1, busy=0)
    assert processors.percent() == pytest.approx(0), "each window begins where the last one ended"


def test_counters_that_stand_still_keep_the_answer() -> None:
    processors = Processors()
    processors.run(10, busy=1)
    assert processors.percent() == pytest.approx(50)
    processors.now_s += 10
    assert processors.percent() == pytest.approx(50)


def test_the_counters_of_this_machine_grow() -> None:
    before, after = cpu_times(), cpu_times()
    assert 0 < before.busy_s <= before.total_s
    assert after.total_s >= before.total_s
