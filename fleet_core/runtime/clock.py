"""The one place that asks the operating system what time it is; everything else is told."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def now_utc() -> datetime:
    """The present, as an aware UTC datetime."""
    return datetime.now(UTC)
