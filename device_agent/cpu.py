"""How busy the processors are: a share over a window of time, and never over a moment.

- A window that is too short measures whoever happens to run just then, which is this agent: at its
  start, and when it connects. So nothing under `WINDOW_MIN_S` is measured.
- Asked again sooner than that, the answer is the one before; before there is any, 0. Whoever wants
  a first answer that means something waits for `WINDOW_MIN_S` from the start of the counters.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import psutil

WINDOW_MIN_S = 1.0
"""The shortest time a share is measured over."""


class CpuTimes(msgspec.Struct, frozen=True):
    """Seconds all processors together have spent since the machine was started."""

    busy_s: float
    total_s: float


class CpuWindow:
    """The share of time the processors were busy since the answer before."""

    def __init__(self, now_s: float, read: Callable[[], CpuTimes] | None = None) -> None:
        self._read = read or cpu_times
        self._began_s, self._before = now_s, self._read()
        self._percent = 0.0

    def percent(self, now_s: float) -> float:
        """0 to 100, over at least `WINDOW_MIN_S`."""
        if now_s - self._began_s < WINDOW_MIN_S:
            return self._percent
        times = self._read()
        total_s = times.total_s - self._before.total_s
        if total_s > 0:
            self._percent = 100 * (times.busy_s - self._before.busy_s) / total_s
            self._began_s, self._before = now_s, times
        return self._percent


def cpu_times() -> CpuTimes:
    """This machine's counters. Waiting for a disk is idle; a guest's time is in `user` already."""
    times = psutil.cpu_times()._asdict()
    total_s = sum(times.values()) - times.get("guest", 0.0) - times.get("guest_nice", 0.0)
    idle_s = times["idle"] + times.get("iowait", 0.0)
    return CpuTimes(total_s - idle_s, total_s)
