"""The spool: records of this and earlier boots that the platform has not receipted.

- Bounded by rows and by bytes. When it is full the oldest record makes room and is counted; the
  count is kept with the records until an event has reported it.
- A storage that can't take a record (full disk) costs that record its place, never the caller an
  error: `append` returns None and the loss is counted.
- A storage that is found corrupt is moved aside and begun anew; `take_reset` says so once.
- Positions grow for as long as the process lives, also over a reset.

The rules are here, once; a `Storage` only keeps rows: `MemoryStorage` in memory, `SqliteStorage`
(`spool_sqlite.py`) in a file.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Protocol, TypeVar

import msgspec

from device_agent.logs import fields
from device_agent.records import Record

logger = logging.getLogger(__name__)
T = TypeVar("T")

REPORT_ROOM_BYTES = 1024
"""Room a report of dropped records needs: it must not displace a record itself."""


class StorageFailed(Exception):
    """The storage can't do this now: the disk is full, not writable, or fails."""


class StorageCorrupt(Exception):
    """What is stored can't be read any more."""


class Entry(msgspec.Struct, frozen=True):
    """A record and its place in the spool."""

    position: int
    record: Record


class Totals(msgspec.Struct, frozen=True):
    """What a storage holds. `dropped` counts records lost and not yet reported."""

    rows: int = 0
    size_bytes: int = 0
    last_position: int = 0
    dropped: int = 0


class SpoolLimits(msgspec.Struct, frozen=True):
    """How much is kept: records, and bytes of their payloads."""

    rows: int = 20_000
    size_bytes: int = 32 * 1024 * 1024


class Storage(Protocol):
    """Rows by position. Every method may raise `StorageFailed` or `StorageCorrupt`."""

    def transaction(self) -> AbstractContextManager[None]:
        """All of what is done inside, or nothing."""

    def totals(self) -> Totals:
        """What is stored."""

    def insert(self, position: int, record: Record) -> None:
        """Store a record at a position above all others."""

    def remove_oldest(self) -> tuple[int, int]:
        """Remove the record at the lowest position; the size of its payload and its `reports`."""

    def remove(self, boot_id: str, first: int, last: int) -> list[tuple[int, int]]:
        """Remove `first` ≤ seq ≤ `last` of a boot; their positions and sizes."""

    def read(self, after: int, limit: int) -> list[Entry]:
        """Up to `limit` entries with a position above `after`, in order."""

    def fetch(self, positions: Sequence[int]) -> list[Entry]:
        """The entries at `positions` that still exist, in order."""

    def set_dropped(self, count: int) -> None:
        """Remember the number of records lost and not yet reported."""

    def reset(self) -> None:
        """Put what is there aside and begin empty."""

    def close(self) -> None:
        """Let go of the file."""


class MemoryStorage:
    """Rows in a dictionary: for simulated devices and for tests."""

    def __init__(self) -> None:
        self._records: dict[int, Record] = {}
        self._dropped = 0

    def transaction(self) -> AbstractContextManager[None]:
        return nullcontext()

    def totals(self) -> Totals:
        size_bytes = sum(len(record.payload) for record in self._records.values())
        return Totals(len(self._records), size_bytes, max(self._records, default=0), self._dropped)

    def insert(self, position: int, record: Record) -> None:
        self._records[position] = record

    def remove_oldest(self) -> tuple[int, int]:
        record = self._records.pop(next(iter(self._records)))
        return len(record.payload), record.reports

    def remove(self, boot_id: str, first: int, last: int) -> list[tuple[int, int]]:
        positions = [
            position
            for position, record in self._records.items()
            if record.boot_id == boot_id and first <= record.seq <= last
        ]
        return [(position, len(self._records.pop(position).payload)) for position in positions]

    def read(self, after: int, limit: int) -> list[Entry]:
        newer = (entry for entry in self._entries() if entry.position > after)
        return list(islice(newer, limit))

    def fetch(self, positions: Sequence[int]) -> list[Entry]:
        return [Entry(p, self._records[p]) for p in sorted(positions) if p in self._records]

    def set_dropped(self, count: int) -> None:
        self._dropped = count

    def reset(self) -> None:
        self._records.clear()
        self._dropped = 0

    def close(self) -> None:
        """Nothing to let go of: what is in memory is for the next machine on the same storage."""

    def _entries(self) -> Iterator[Entry]:
        return (Entry(position, record) for position, record in self._records.items())


class Spool:
    """Records in a storage, within limits. No method raises for what the storage does."""

    def __init__(self, storage: Storage, limits: SpoolLimits | None = None) -> None:
        self._storage = storage
        self._limits = limits or SpoolLimits()
        self._totals = Totals()
        self._dropped_here = 0
        self._was_reset = False
        self._loaded = False
        self.failing = False
        self._guard(lambda: None, None)

    @property
    def rows(self) -> int:
        """Records kept."""
        return self._totals.rows

    @property
    def size_bytes(self) -> int:
        """Bytes of their payloads."""
        return self._totals.size_bytes

    @property
    def last_position(self) -> int:
        """The highest position ever given."""
        return self._totals.last_position

    @property
    def dropped(self) -> int:
        """Records lost and not yet reported."""
        return self._totals.dropped + self._dropped_here

    @property
    def has_room(self) -> bool:
        """Whether a short record can be kept without dropping another."""
        return (
            self.rows < self._limits.rows
            and self.size_bytes + REPORT_ROOM_BYTES <= self._limits.size_bytes
        )

    def append(self, record: Record) -> int | None:
        """Keep `record`; its position, or None when it could not be kept and counts as dropped.

        A record that reports losses takes them off the count in the same transaction, gives them
        back when it is dropped itself, and is not counted when it can't be kept.
        """
        position: int | None = None
        if len(record.payload) <= self._limits.size_bytes:
            position = self._guard(lambda: self._append(record), None)
        if position is None and not record.reports:
            self._dropped_here += 1
        return position

    def remove(self, boot_id: str, ranges: Sequence[tuple[int, int]]) -> list[int]:
        """Remove the records of `boot_id` in the inclusive ranges of seq; their positions."""
        return self._guard(lambda: self._remove(boot_id, ranges), [])

    def read(self, after: int, limit: int) -> list[Entry]:
        """Up to `limit` entries above a position, in order; none while the storage fails."""
        return self._guard(lambda: self._storage.read(after, limit), [])

    def fetch(self, positions: Sequence[int]) -> list[Entry]:
        """The entries at `positions` that still exist; none while the storage fails."""
        return self._guard(lambda: self._storage.fetch(positions), []) if positions else []

    def take_reset(self) -> bool:
        """Whether the storage was begun anew since the last time somebody asked."""
        was_reset, self._was_reset = self._was_reset, False
        return was_reset

    def close(self) -> None:
        """Let go of the storage."""
        self._storage.close()

    def _append(self, record: Record) -> int:
        rows, size_bytes = self.rows, self.size_bytes
        dropped = max(0, self.dropped - record.reports)
        position = self.last_position + 1
        with self._storage.transaction():
            while rows and (
                rows >= self._limits.rows
                or size_bytes + len(record.payload) > self._limits.size_bytes
            ):
                removed_bytes, reports = self._storage.remove_oldest()
                size_bytes -= removed_bytes
                rows -= 1
                dropped += 1 + reports
            self._storage.insert(position, record)
            if dropped != self._totals.dropped:
                self._storage.set_dropped(dropped)
        self._totals = Totals(rows + 1, size_bytes + len(record.payload), position, dropped)
        self._dropped_here = 0
        return position

    def _remove(self, boot_id: str, ranges: Sequence[tuple[int, int]]) -> list[int]:
        with self._storage.transaction():
            removed = [
                row for first, last in ranges for row in self._storage.remove(boot_id, first, last)
            ]
        self._totals = msgspec.structs.replace(
            self._totals,
            rows=self.rows - len(removed),
            size_bytes=self.size_bytes - sum(size for _, size in removed),
        )
        return [position for position, _ in removed]

    def _guard(self, work: Callable[[], T], otherwise: T) -> T:
        """Do `work` on the storage; `otherwise` when it can't be done now."""
        try:
            result = self._rescued(work)
        except StorageFailed as error:
            if not self.failing:
                logger.warning("spool.failing", extra=fields(error=error))
            self.failing = True
            return otherwise
        if self.failing:
            logger.info("spool.recovered", extra=fields(rows=self.rows))
        self.failing = False
        return result

    def _rescued(self, work: Callable[[], T]) -> T:
        try:
            self._load()
            return work()
        except StorageCorrupt as error:
            logger.exception("spool.reset", extra=fields(error=error, rows=self.rows))
        self._storage.reset()
        self._was_reset = True
        self._dropped_here += self._totals.rows + self._totals.dropped
        self._totals = Totals(last_position=self.last_position)
        self._loaded = True
        try:
            return work()
        except StorageCorrupt as error:
            raise StorageFailed(f"corrupt again right after a reset: {error}") from error

    def _load(self) -> None:
        if not self._loaded:
            self._totals = self._storage.totals()
            self._loaded = True
