"""Migrations: once, in order, by one, and never rewritten."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import psycopg
import pytest

from fleet_core.contract.errors import ConfigError
from fleet_core.registry import migrate as module
from fleet_core.registry.faults import DatabaseUnavailable
from fleet_core.registry.migrate import Profile, migrate, migrations
from tests.fixtures.timescale import reset_schema
from tests.integration.registry.conftest import SCHEMA, Storage

RECORDS = "SELECT file_name, profile, checksum, applied_at FROM schema_migrations ORDER BY 1"
COLUMNS = (
    "SELECT table_name, column_name, data_type, is_nullable, column_default"
    " FROM information_schema.columns WHERE table_schema = current_schema()"
    " ORDER BY 1, 2"
)


def query(url: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


@pytest.fixture
def with_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A directory of migrations that a test may add to; the real ones are in it."""
    for path in module._DIRECTORY.glob("*.sql"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(module, "_DIRECTORY", tmp_path)
    return tmp_path


async def test_every_file_of_the_profile_is_applied_and_recorded(empty_storage: Storage) -> None:
    assert await migrate(empty_storage.url) is empty_storage.profile
    recorded = [row[:3] for row in query(empty_storage.url, RECORDS)]
    assert recorded == [
        (m.file_name, empty_storage.profile.value, m.checksum)
        for m in migrations(empty_storage.profile)
    ]


async def test_twice_changes_nothing(empty_storage: Storage) -> None:
    await migrate(empty_storage.url)
    before = query(empty_storage.url, RECORDS), query(empty_storage.url, COLUMNS)
    assert await migrate(empty_storage.url) is empty_storage.profile
    assert (query(empty_storage.url, RECORDS), query(empty_storage.url, COLUMNS)) == before


@pytest.mark.postgres
async def test_many_at_once_are_one(empty_database_url: str) -> None:
    found = await asyncio.gather(*(migrate(empty_database_url) for _ in range(6)))
    assert set(found) == {Profile.PLAIN}
    assert len(query(empty_database_url, RECORDS)) == len(migrations(Profile.PLAIN))
    locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
    assert query(empty_database_url, locks) == [(0,)]


async def test_a_file_that_was_changed_after_it_was_applied_is_refused(
    empty_storage: Storage,
) -> None:
    await migrate(empty_storage.url)
    query(empty_storage.url, "UPDATE schema_migrations SET checksum = 'x' WHERE file_name ~ '0001'")
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"0001_registry\.sql was changed"):
            await migrate(empty_storage.url)


async def test_a_database_that_is_newer_than_the_program_is_refused(
    empty_storage: Storage,
) -> None:
    await migrate(empty_storage.url)
    query(empty_storage.url, "INSERT INTO schema_migrations VALUES ('9999_later.sql', 'plain', '')")
    query(empty_storage.url, f"UPDATE schema_migrations SET profile = '{empty_storage.profile}'")
    with pytest.raises(ConfigError, match=r"newer than this program: 9999_later\.sql"):
        await migrate(empty_storage.url)


async def test_a_migration_that_comes_later_is_added(
    empty_storage: Storage, with_files: Path
) -> None:
    await migrate(empty_storage.url)
    (with_files / "0090_more.sql").write_text("CREATE TABLE more (a int); CREATE TABLE most ();")
    other = "timescale" if empty_storage.profile is Profile.PLAIN else "plain"
    (with_files / f"0091_other.{other}.sql").write_text("nonsense")
    await migrate(empty_storage.url)
    assert query(empty_storage.url, "SELECT count(*) FROM more, most") == [(0,)]
    assert query(empty_storage.url, RECORDS)[-1][0] == "0090_more.sql"


async def test_a_migration_that_fails_leaves_nothing_and_can_be_tried_again(
    empty_storage: Storage, with_files: Path
) -> None:
    bad = with_files / "0090_more.sql"
    bad.write_text("CREATE TABLE more (a int); SELECT 1 / 0")
    for _ in range(2):
        with pytest.raises(Exception, match="division by zero"):
            await migrate(empty_storage.url)
    assert query(empty_storage.url, "SELECT to_regclass('more')") == [(None,)]
    assert len(query(empty_storage.url, RECORDS)) == len(migrations(empty_storage.profile)) - 1
    bad.write_text("CREATE TABLE more (a int)")
    await migrate(empty_storage.url)
    assert query(empty_storage.url, "SELECT count(*) FROM more") == [(0,)]


def test_a_file_with_another_name_is_refused(with_files: Path) -> None:
    (with_files / "12_short.sql").write_text("")
    with pytest.raises(ValueError, match="12_short"):
        migrations(Profile.PLAIN)


def test_numbers_are_unique_within_a_profile() -> None:
    for profile in Profile:
        numbers = [m.file_name[:4] for m in migrations(profile)]
        assert numbers == sorted(set(numbers))


async def test_histories_are_hypertables_where_there_is_timescaledb(
    timescale_server: str,
) -> None:
    with psycopg.connect(timescale_server, autocommit=True) as connection:
        reset_schema(connection, SCHEMA)
    assert await migrate(timescale_server) is Profile.TIMESCALE
    names = "SELECT hypertable_name FROM timescaledb_information.hypertables ORDER BY 1"
    assert query(timescale_server, names) == [("device_events",), ("heartbeats",)]


async def test_both_profiles_have_the_same_tables_and_columns(
    timescale_server: str, database_url: str
) -> None:
    with psycopg.connect(timescale_server, autocommit=True) as connection:
        reset_schema(connection, SCHEMA)
    await migrate(timescale_server)
    assert query(timescale_server, COLUMNS) == query(database_url, COLUMNS)


async def test_no_database_is_no_error_of_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable):
        await migrate(f"postgresql://fleet@/fleet?host={tmp_path}")
