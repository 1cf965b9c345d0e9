"""Whether somebody else keeps taking this device's connection away.

A broker ends a session when another client connects under the same name. Two agents with one id
therefore end each other's for ever, each soon after it began. One can't see the other; it can see
that its sessions are short, again and again.
"""

from __future__ import annotations

from collections import deque

SHORT_SESSION_S = 10.0
"""A session that lasted less was short."""
SHORT_SESSIONS_LIMIT = 5
WITHIN_S = 600.0
"""So many short sessions within this time are no accident."""
REPORT_INTERVAL_S = 3600.0
"""At least this long between two reports of it."""


class ShortSessions:
    """Counts them. A long one in between says nothing: the other agent waited a little longer."""

    def __init__(self) -> None:
        self._lost_at_s: deque[float] = deque(maxlen=SHORT_SESSIONS_LIMIT)
        self._report_after_s: float | None = None

    def lost(self, lasted_s: float, now_s: float) -> bool:
        """A session was lost `now_s`, `lasted_s` after it began. Whether it is time to say so."""
        if lasted_s >= SHORT_SESSION_S:
            return False
        self._lost_at_s.append(now_s)
        if len(self._lost_at_s) < SHORT_SESSIONS_LIMIT or now_s - self._lost_at_s[0] > WITHIN_S:
            return False
        if self._report_after_s is not None and now_s < self._report_after_s:
            return False
        self._report_after_s = now_s + REPORT_INTERVAL_S
        return True
