"""What a database error means to the one who asked: try again, refuse this row, or a bug.

Source: PostgreSQL, appendix A (error codes). Class 22 and 23 are the data's fault; classes 08, 53,
57, 58 and 40 are the server's state; the rest is ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import psycopg_pool

from fleet_core.contract.errors import RefusedByDatabase, Unavailable

_SERVER_STATE = frozenset({"08", "40", "53", "55", "57", "58", "XX"})
# Read-only, transaction timeout, no such database, schema, table or column, no right to it: a
# server that is not yet what migrations make of it. Nothing that devices say may be lost to that.
_NOT_READY = frozenset({"25006", "25P03", "25P04", "3D000", "42501"})
_NOT_MIGRATED = frozenset({"3F000", "42P01", "42703"})
_QUERY_CANCELED = "57014"
_OF_THE_DATA = frozenset({"22", "23"})


class DatabaseUnavailable(Unavailable):
    """PostgreSQL does not answer, or can't do its work at the moment."""


class StatementTimeout(DatabaseUnavailable):
    """A statement took longer than it may. With less to do it may not."""


@contextmanager
def translated() -> Iterator[None]:
    """Turn psycopg's errors into `DatabaseUnavailable` or `RefusedByDatabase`; leave bugs alone."""
    try:
        yield
    except (
        psycopg_pool.PoolTimeout,
        psycopg_pool.PoolClosed,
        psycopg_pool.TooManyRequests,
    ) as error:
        raise DatabaseUnavailable(f"no database connection: {error}") from error
    except psycopg.Error as error:
        raise _meaning(error) from error


def _meaning(error: psycopg.Error) -> Exception:
    state = error.sqlstate or ""
    if state[:2] in _OF_THE_DATA or (not state and isinstance(error, psycopg.DataError)):
        return RefusedByDatabase(str(error).strip()[:300])
    unreachable = not state and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    if state == _QUERY_CANCELED:
        return StatementTimeout(f"a statement was given up: {str(error).strip()[:300]}")
    if state in _NOT_MIGRATED:
        return DatabaseUnavailable(
            f"{str(error).splitlines()[0][:200]} (`fleet handlers migrate` brings it up to date)"
        )
    if unreachable or state[:2] in _SERVER_STATE or state in _NOT_READY:
        return DatabaseUnavailable(f"{type(error).__name__}: {str(error).strip()[:300]}")
    return error
