"""Since when this process hears devices without a gap.

Silence of a device is evidence only while somebody listens. A lost connection, a database that
could not take what was heard, and a pause of the whole process are gaps: what was silent in them
may have been speaking.
"""

from __future__ import annotations

from datetime import datetime, timedelta

TELL_INTERVAL_S = 2.0
"""How often a listening process says so in the registry."""
FRESH_S = 10.0
"""How long what it said is believed."""


class Hearing:
    """A small clock that starts anew after every gap. Times are handed in."""

    def __init__(self) -> None:
        self._since: datetime | None = None
        self._told_at: datetime | None = None

    def begin(self, now: datetime) -> None:
        """Messages are being received and stored from now on."""
        self._since, self._told_at = now, now

    def interrupt(self) -> None:
        """Something is in the way."""
        self._since = None

    def since(self, now: datetime) -> datetime | None:
        """Since when devices are heard, told at `now`; `None` in a gap."""
        if self._since is not None and self._told_at is not None:
            if now - self._told_at > timedelta(seconds=FRESH_S):
                self._since = now
            self._told_at = now
        return self._since
