"""What time it is, twice: for records and for waiting.

- `at` is the wall clock: it stamps records, and may jump.
- `elapsed_s` never jumps: every interval, timeout and delay is measured with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

import msgspec

from fleet_core.runtime.clock import now_utc


class Moment(msgspec.Struct, frozen=True):
    """One instant: aware UTC, and seconds since an arbitrary start."""

    at: datetime
    elapsed_s: float


MomentClock = Callable[[], Moment]


def present() -> Moment:
    """This instant, from the operating system."""
    return Moment(now_utc(), time.monotonic())
