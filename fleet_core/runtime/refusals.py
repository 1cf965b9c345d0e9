"""What is refused: turned into dead letters, counted, and logged without flooding anything.

Each reason is logged the first time and then at most once a minute with its count. Beyond
`limit_per_minute` dead letters are counted, not stored: refusing must not cost more than accepting.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog

from fleet_core.contract.errors import Rejected
from fleet_core.contract.publication import Delivery
from fleet_core.registry.dead_letters import DeadLetter

_MINUTE = timedelta(minutes=1)
_log = structlog.get_logger("refusals")


class Refusals:
    """One process's view of what it refused."""

    def __init__(self, *, payload_limit_bytes: int, limit_per_minute: int) -> None:
        self.counts: dict[str, int] = {}
        self.not_stored = 0
        self._payload_limit_bytes = payload_limit_bytes
        self._limit_per_minute = limit_per_minute
        self._window_start: datetime | None = None
        self._in_window = 0
        self._logged: dict[str, tuple[datetime, int]] = {}

    def letter(self, delivery: Delivery, error: Rejected) -> DeadLetter:
        """The dead letter for one refused delivery."""
        return DeadLetter(
            received_at=delivery.received_at,
            topic=delivery.topic,
            reason=error.reason,
            detail=error.detail or str(error),
            payload=delivery.payload[: self._payload_limit_bytes],
            size_bytes=len(delivery.payload),
        )

    def storable(self, letters: list[DeadLetter], now: datetime) -> list[DeadLetter]:
        """Those that still fit this minute's limit. Call `committed` once they are stored."""
        if self._window_start is None or now - self._window_start >= _MINUTE:
            self._window_start, self._in_window = now, 0
        room = max(0, self._limit_per_minute - self._in_window)
        return letters[:room]

    def committed(self, letters: list[DeadLetter], stored: int, now: datetime) -> None:
        """Count `letters`, of which `stored` were written, and say so where it is due."""
        self._in_window += stored
        self.not_stored += len(letters) - stored
        for letter in letters:
            count = self.counts[letter.reason] = self.counts.get(letter.reason, 0) + 1
            logged_at, logged_count = self._logged.get(letter.reason, (None, 0))
            if logged_at is None or now - logged_at >= _MINUTE:
                self._logged[letter.reason] = (now, count)
                _log.warning(
                    "refused",
                    reason=letter.reason,
                    topic=letter.topic[:200],
                    detail=letter.detail[:200],
                    since_last=count - logged_count,
                )
