"""Migrations: numbered SQL files, applied once, in order, under a lock, and never edited after.

- `NNNN_name.sql` is for every server; `NNNN_name.plain.sql` and `NNNN_name.timescale.sql` are for
  one storage profile. The profile is chosen once, by what the server offers, and recorded.
- Each file runs in a transaction of its own together with its record in `schema_migrations`.
- A checksum that differs from the record means that history was rewritten: refuse to start.
- Any number of processes may call `migrate` at once; an advisory lock lets one do the work.
"""

from __future__ import annotations

import hashlib
import re
from enum import StrEnum
from pathlib import Path

import msgspec
import psycopg

from fleet_core.contract.errors import ConfigError
from fleet_core.registry.faults import translated

_DIRECTORY = Path(__file__).parent / "migrations"
_FILE_NAME = re.compile(
    r"(?P<number>\d{4})_(?P<name>[a-z_]+)(\.(?P<profile>plain|timescale))?\.sql"
)
_LOCK_ID = 0x666C656574  # "fleet"
_MINIMUM_SERVER_VERSION = 150_000


class Profile(StrEnum):
    """How histories are stored."""

    PLAIN = "plain"
    TIMESCALE = "timescale"


class Migration(msgspec.Struct, frozen=True):
    """One file."""

    file_name: str
    profile: Profile | None
    statements: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the file, in hex."""
        return hashlib.sha256(self.statements.encode()).hexdigest()


def migrations(profile: Profile) -> list[Migration]:
    """The files of this profile in the order they are applied."""
    found = []
    for path in sorted(_DIRECTORY.glob("*.sql")):
        match = _FILE_NAME.fullmatch(path.name)
        if match is None:
            raise ValueError(f"{path.name} is no name of a migration")
        of_profile = Profile(match["profile"]) if match["profile"] else None
        if of_profile in (None, profile):
            found.append(Migration(path.name, of_profile, path.read_text("utf-8")))
    return found


async def migrate(dsn: str) -> Profile:
    """Bring the database at `dsn` up to date and say which profile it has.

    Raises `Unavailable` where it can't be reached, `ConfigError` where it can't be used.
    """
    with translated():
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            if connection.info.server_version < _MINIMUM_SERVER_VERSION:
                raise ConfigError("PostgreSQL 15 or newer is needed")
            await connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK_ID,))
            try:
                return await _migrate(connection)
            finally:
                if not connection.broken:
                    await connection.execute("SELECT pg_advisory_unlock(%s)", (_LOCK_ID,))


async def _migrate(connection: psycopg.AsyncConnection) -> Profile:
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations ("
        " file_name text PRIMARY KEY, profile text NOT NULL, checksum text NOT NULL,"
        " applied_at timestamptz NOT NULL DEFAULT now())"
    )
    cursor = await connection.execute("SELECT file_name, profile, checksum FROM schema_migrations")
    applied = {row[0]: (row[1], row[2]) for row in await cursor.fetchall()}
    profile = Profile(next(iter(applied.values()))[0]) if applied else await _choose(connection)
    known = migrations(profile)
    unknown = applied.keys() - {migration.file_name for migration in known}
    if unknown:
        raise ConfigError(f"the database is newer than this program: {', '.join(sorted(unknown))}")
    for migration in known:
        if migration.file_name in applied:
            if applied[migration.file_name][1] != migration.checksum:
                raise ConfigError(f"{migration.file_name} was changed after it was applied")
            continue
        async with connection.transaction():
            await connection.execute(migration.statements.encode())
            await connection.execute(
                "INSERT INTO schema_migrations (file_name, profile, checksum) VALUES (%s, %s, %s)",
                (migration.file_name, profile.value, migration.checksum),
            )
    return profile


async def _choose(connection: psycopg.AsyncConnection) -> Profile:
    """TimescaleDB where the server offers it and we may create it."""
    cursor = await connection.execute(
        "SELECT 1 FROM pg_available_extensions WHERE name = 'timescaledb'"
    )
    if await cursor.fetchone() is None:
        return Profile.PLAIN
    await connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
    return Profile.TIMESCALE
