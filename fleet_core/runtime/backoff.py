"""How long to wait before the next attempt."""

from __future__ import annotations

import random


class Backoff:
    """Exponential delays with full jitter, so that a fleet doesn't come back in step."""

    def __init__(
        self, first_s: float = 1.0, limit_s: float = 60.0, source: random.Random | None = None
    ) -> None:
        self._first_s, self._limit_s = first_s, limit_s
        self._source = source or random.Random()  # noqa: S311 (jitter, not a secret)
        self.attempts = 0

    def next_s(self) -> float:
        """Seconds to wait before the next attempt; at least a tenth of the ceiling."""
        ceiling_s = min(self._limit_s, self._first_s * 2.0 ** min(self.attempts, 30))
        self.attempts += 1
        return ceiling_s * self._source.uniform(0.1, 1.0)

    def reset(self) -> None:
        """The attempt succeeded; begin anew next time."""
        self.attempts = 0
