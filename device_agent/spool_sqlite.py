"""The spool's rows in a SQLite file.

- WAL and `synchronous=FULL`: what `append` answered with a position survives a power cut, for the
  price of one fsync per heartbeat.
- The file is checked when it is opened. One that is corrupt, or of another schema, is moved aside
  to `<name>.corrupt`, of which one is kept.
- Opening is tried again with each use, so that a disk that was full or missing is taken back.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from device_agent.records import Record, RecordKind
from device_agent.spool import Entry, StorageCorrupt, StorageFailed, Totals

SCHEMA_VERSION = 1
BUSY_TIMEOUT_S = 1.0
CACHE_KIB = 256
_CORRUPT_CODES = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_SCHEMA = """
CREATE TABLE records (
    position INTEGER PRIMARY KEY,
    boot_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    kind TEXT NOT NULL,
    payload BLOB NOT NULL,
    reports INTEGER NOT NULL
);
CREATE UNIQUE INDEX records_by_name ON records (boot_id, seq);
CREATE TABLE losses (dropped INTEGER NOT NULL);
INSERT INTO losses VALUES (0);
"""
_TOTALS = """
SELECT count(*), coalesce(sum(length(payload)), 0), coalesce(max(position), 0),
       (SELECT dropped FROM losses)
FROM records
"""
_INSERT = "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?)"
_REMOVE_OLDEST = """
DELETE FROM records WHERE position = (SELECT min(position) FROM records)
RETURNING length(payload), reports
"""
_REMOVE = """
DELETE FROM records WHERE boot_id = ? AND seq BETWEEN ? AND ?
RETURNING position, length(payload)
"""
_READ = "SELECT * FROM records WHERE position > ? ORDER BY position LIMIT ?"
_FETCH = "SELECT * FROM records WHERE position = ?"
_SET_DROPPED = "UPDATE losses SET dropped = ?"


class SqliteStorage:
    """Implements `spool.Storage` in the file `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened: sqlite3.Connection | None = None

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        with self._translated():
            connection = self._connection()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def totals(self) -> Totals:
        with self._translated():
            row = self._connection().execute(_TOTALS).fetchone()
            return Totals(*row)

    def insert(self, position: int, record: Record) -> None:
        row = (position, *msgspec.structs.astuple(record))
        with self._translated():
            self._connection().execute(_INSERT, row)

    def remove_oldest(self) -> tuple[int, int]:
        with self._translated():
            rows = self._connection().execute(_REMOVE_OLDEST).fetchall()
            if not rows:
                raise StorageCorrupt("records are missing")
            size_bytes, reports = rows[0]
            return size_bytes, reports

    def remove(self, boot_id: str, first: int, last: int) -> list[tuple[int, int]]:
        with self._translated():
            return self._connection().execute(_REMOVE, (boot_id, first, last)).fetchall()

    def read(self, after: int, limit: int) -> list[Entry]:
        with self._translated():
            rows = self._connection().execute(_READ, (after, limit)).fetchall()
            return [_entry(row) for row in rows]

    def fetch(self, positions: Sequence[int]) -> list[Entry]:
        with self._translated():
            execute = self._connection().execute
            rows = [row for p in sorted(positions) for row in execute(_FETCH, (p,)).fetchall()]
            return [_entry(row) for row in rows]

    def set_dropped(self, count: int) -> None:
        with self._translated():
            self._connection().execute(_SET_DROPPED, (count,))

    def reset(self) -> None:
        self.close()
        aside = self._path.with_name(f"{self._path.name}.corrupt")
        try:
            for suffix in ("", "-wal", "-shm"):
                if (part := Path(f"{self._path}{suffix}")).exists():
                    part.replace(f"{aside}{suffix}")
        except OSError as error:
            raise StorageFailed(f"{self._path} can't be moved aside: {error}") from error

    def close(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            with contextlib.suppress(sqlite3.Error):  # what is committed is safe, whatever it says
                opened.close()

    def _connection(self) -> sqlite3.Connection:
        if self._opened is None:
            self._opened = self._open()
        return self._opened

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None, cached_statements=16
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            _check(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
            if code in _CORRUPT_CODES or (code == sqlite3.SQLITE_ERROR and self._opened is None):
                raise StorageCorrupt(str(error)) from error
            raise StorageFailed(str(error)) from error


def _check(connection: sqlite3.Connection) -> None:
    """Make the schema where there is none; refuse what is damaged or of another version."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if version == 0 and tables == 0:
        connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT")
    elif version != SCHEMA_VERSION:
        raise StorageCorrupt(f"schema version {version}, not {SCHEMA_VERSION}")
    else:
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise StorageCorrupt(verdict)
        connection.execute(_READ, (0, 0))
        connection.execute(_TOTALS)


def _entry(row: tuple[Any, ...]) -> Entry:
    position, boot_id, seq, kind, payload, reports = row
    try:
        return Entry(position, Record(boot_id, seq, RecordKind(kind), payload, reports))
    except ValueError as error:
        raise StorageCorrupt(f"a record of the kind {kind!r}") from error
