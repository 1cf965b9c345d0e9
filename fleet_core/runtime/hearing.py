"""Since when this process hears devices without a gap.

Silence of a device is evidence only while somebody listens. A lost connection, a batch that the
database does not take, and a pause of the whole process are gaps: what was silent in them may have
been speaking. A database that is away while nothing has arrived is no gap: there was nothing to
hear.

What is believed too long is at most `FRESH_S` and a batch in hand for `HELD_LIMIT_S`; together they
stay below the shortest lateness, two intervals of ten seconds, less one interval.
"""

from __future__ import annotations

from datetime import datetime, timedelta

TELL_INTERVAL_S = 2.0
"""How often a listening process says so in the registry."""
FRESH_S = 6.0
"""How long what it said is believed."""
HELD_LIMIT_S = 1.0
"""How long a batch may be in hand before those who may have spoken meanwhile count as unheard."""


class Hearing:
    """A small clock that starts anew after every gap. Times are handed in."""

    def __init__(self) -> None:
        self._since: datetime | None = None
        self._told_at: datetime | None = None
        self._held_since: datetime | None = None

    def begin(self, now: datetime) -> None:
        """Messages are being received and stored from now on."""
        self._since, self._told_at, self._held_since = now, now, None

    def interrupt(self) -> None:
        """Something is in the way."""
        self._since = None

    def take(self, now: datetime) -> None:
        """A batch was received and is to be stored."""
        self._held_since = now

    def stored(self, now: datetime) -> None:
        """The batch in hand is stored; hearing begins again where it had ended."""
        self._end_if_held_too_long(now)
        self._held_since = None
        if self._since is None:
            self.begin(now)

    def since(self, now: datetime) -> datetime | None:
        """Since when devices are heard, told at `now`; `None` in a gap."""
        self._end_if_held_too_long(now)
        if self._since is not None and self._told_at is not None:
            if now - self._told_at > timedelta(seconds=FRESH_S):
                self._since = now
            self._told_at = now
        return self._since

    def _end_if_held_too_long(self, now: datetime) -> None:
        if self._held_since and now - self._held_since > timedelta(seconds=HELD_LIMIT_S):
            self._since = None
