"""Which spooled records are to be sent now: the bookkeeping of one connection, in positions.

- Oldest first: a cursor walks the spool once per connection; what is behind it has been sent.
- A record that was sent holds a place in the window until its receipt, at most 30 s. So records
  that are never receipted slow the others down but can't block them.
- Without a receipt it is sent again after 30 s, then 60, 120, 240, and every 300 s, when nothing
  that was never sent is left to send.
- Live records are sent at once and take a place even where the window is full.
- Any receipt is an answer: since when there has been none is known, too.

A position is the spool's own number of a record; time is `Moment.elapsed_s`.
"""

from __future__ import annotations

from itertools import islice, takewhile

WINDOW_LIMIT = 100
"""Records that may wait for a receipt before the next is sent."""
RECEIPT_TIMEOUTS_S = (30.0, 60.0, 120.0, 240.0, 300.0)
"""How long to wait for a receipt after the first, second, … sending."""


class Replay:
    """What has been sent on this connection and is not receipted."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """A new connection: everything in the spool is to be sent again, at once."""
        self.cursor = 0
        self.unanswered_since_s: float | None = None
        # Each level has one timeout, so its insertion order is its order of falling due.
        self._due_s: tuple[dict[int, float], ...] = tuple({} for _ in RECEIPT_TIMEOUTS_S)
        self._window: dict[int, float] = {}

    def sent(self, position: int, now_s: float) -> None:
        """The record at `position` goes out now, for the first time or again."""
        level = next((n for n, due in enumerate(self._due_s) if position in due), -1)
        self.forget(position)
        level = min(level + 1, len(RECEIPT_TIMEOUTS_S) - 1)
        self._due_s[level][position] = now_s + RECEIPT_TIMEOUTS_S[level]
        self._window[position] = now_s + RECEIPT_TIMEOUTS_S[0]
        if self.unanswered_since_s is None:
            self.unanswered_since_s = now_s

    def answered(self) -> None:
        """A receipt came, whatever it is for: somebody reads what is sent here."""
        self.unanswered_since_s = None

    def forget(self, position: int) -> None:
        """The record at `position` is receipted, or no longer there."""
        self._window.pop(position, None)
        for due in self._due_s:
            due.pop(position, None)

    def is_sent(self, position: int) -> bool:
        """Whether the record at `position` was sent on this connection and is not receipted."""
        return any(position in due for due in self._due_s)

    def room(self, now_s: float) -> int:
        """How many records may be sent now."""
        for position in [*takewhile(lambda p: self._window[p] <= now_s, self._window)]:
            del self._window[position]
        return max(0, WINDOW_LIMIT - len(self._window))

    def overdue(self, now_s: float, limit: int) -> list[int]:
        """Up to `limit` positions whose receipt did not come in time, oldest first."""
        late = [
            position
            for due in self._due_s
            for position, due_s in islice(due.items(), limit)
            if due_s <= now_s
        ]
        return sorted(late)[:limit]

    def next_due_s(self, now_s: float, *, unsent: bool) -> float | None:
        """When something may be sent next; `unsent` says whether the cursor has a way to go."""
        if self.room(now_s) == 0:
            return next(iter(self._window.values()))
        if unsent:
            return now_s
        return min((next(iter(due.values())) for due in self._due_s if due), default=None)
