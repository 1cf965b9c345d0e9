"""Which times of a device a history accepts.

A history is partitioned by the device's own time, and that time is part of a record's key. A year
1970 or 2100 can't be corrected without the redelivery of the same record landing elsewhere, so it
is refused; presence and state, which go by receive time, still take it.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec


class Window(msgspec.Struct, frozen=True):
    """How far a record's time may lie from the platform's."""

    past_limit_days: float = 366
    future_limit_s: float = 86_400

    def holds(self, at: datetime, now: datetime) -> bool:
        """Whether a record of time `at` may be stored at `now`."""
        earliest = now - timedelta(days=self.past_limit_days)
        return earliest <= at <= now + timedelta(seconds=self.future_limit_s)
