"""What the other tests may lean on in TimescaleDB in WebAssembly, and where it is not a server."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from tests.fixtures import timescale
from tests.fixtures.timescale import reset_schema, start_timescale

pytestmark = pytest.mark.timescale

START_AT = datetime(2025, 1, 1, tzinfo=UTC)
BOOT_ID = uuid.UUID("00000000-0000-4000-8000-000000000001")
CREATE_SAMPLES = """
    CREATE TABLE fleet.samples (
        device_id text NOT NULL, at timestamptz NOT NULL, boot_id uuid NOT NULL,
        seq bigint NOT NULL, UNIQUE (device_id, at, boot_id, seq));
    SELECT create_hypertable('fleet.samples', 'at', chunk_time_interval => interval '1 day')
"""
INSERT_SAMPLES = """
    INSERT INTO fleet.samples
    SELECT * FROM unnest(%s::text[], %s::timestamptz[], %s::uuid[], %s::bigint[])
    ON CONFLICT DO NOTHING
"""
CREATE_HOURLY = """
    CREATE MATERIALIZED VIEW fleet.hourly WITH (timescaledb.continuous) AS
    SELECT device_id, time_bucket('1 hour', at) AS hour_at, count(*) AS samples
    FROM fleet.samples GROUP BY 1, 2
"""
COMPRESS_BY_DEVICE = """
    ALTER TABLE fleet.samples
    SET (timescaledb.compress, timescaledb.compress_segmentby = 'device_id')
"""
COUNT_SAMPLES = "SELECT count(*) FROM fleet.samples"


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    with start_timescale() as dsn:
        yield dsn


@pytest.fixture
def dsn(server: str) -> str:
    """The server with an empty schema `fleet`, and nobody connected."""
    with connect(server) as connection:
        reset_schema(connection)
    return server


def connect(dsn: str, **settings: Any) -> psycopg.Connection[tuple[Any, ...]]:
    return psycopg.connect(dsn, autocommit=True, **settings)


def value(connection: psycopg.Connection[tuple[Any, ...]], query: str, *values: object) -> Any:
    row = connection.execute(query.encode(), values or None).fetchone()
    assert row is not None
    return row[0]


def status(connection: psycopg.Connection[Any]) -> TransactionStatus:
    return connection.info.transaction_status


def insert(connection: psycopg.Connection[tuple[Any, ...]], first: int, count: int) -> int:
    """Samples `first` to `first + count - 1`, a minute apart; gives how many were new."""
    numbers = list(range(first, first + count))
    times = [START_AT + timedelta(minutes=number) for number in numbers]
    columns = (["gw-0001"] * count, times, [BOOT_ID] * count, numbers)
    return connection.execute(INSERT_SAMPLES, columns).rowcount


def test_a_hypertable_with_all_its_features_works_and_goes_with_its_schema(dsn: str) -> None:
    with connect(dsn) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
        assert value(connection, "SHOW timescaledb.license") == "timescale"
        connection.execute(CREATE_SAMPLES)
        assert insert(connection, 0, 2000) == 2000
        assert insert(connection, 1990, 20) == 10
        assert value(connection, COUNT_SAMPLES) == 2010

        with pytest.raises(psycopg.errors.ActiveSqlTransaction), connection.transaction():
            connection.execute(CREATE_HOURLY)
        connection.execute(CREATE_HOURLY)
        assert value(connection, "SELECT sum(samples) FROM fleet.hourly") == 2010

        connection.execute(COMPRESS_BY_DEVICE)
        compressed = (
            "SELECT count(compress_chunk(chunk)) FROM show_chunks('fleet.samples') AS chunk"
        )
        assert value(connection, compressed) == 2
        assert insert(connection, 2000, 20) == 10

        job = value(connection, "SELECT add_retention_policy('fleet.samples', interval '30 days')")
        connection.execute(b"CALL run_job(%d)" % job)
        assert value(connection, COUNT_SAMPLES) == 0

        reset_schema(connection)
        assert value(connection, "SELECT count(*) FROM _timescaledb_catalog.hypertable") == 0
        jobs = "SELECT count(*) FROM timescaledb_information.jobs WHERE job_id = %s"
        assert value(connection, jobs, job) == 0


def test_a_failed_statement_undoes_its_transaction_or_its_savepoint(dsn: str) -> None:
    with connect(dsn) as connection:
        connection.execute(CREATE_SAMPLES)
        with connection.transaction():
            insert(connection, 0, 1)
            with suppress(psycopg.errors.DivisionByZero), connection.transaction():
                insert(connection, 1, 1)
                connection.execute("SELECT 1 / %s::int", (0,))
            insert(connection, 2, 1)
        assert value(connection, "SELECT array_agg(seq ORDER BY seq) FROM fleet.samples") == [0, 2]

        connection.execute("BEGIN")
        insert(connection, 3, 1)
        with pytest.raises(psycopg.errors.UndefinedTable):
            connection.execute("SELECT * FROM fleet.nowhere")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            connection.execute("SELECT 1")
        assert status(connection) == TransactionStatus.INERROR
        connection.execute("ROLLBACK")
        assert status(connection) == TransactionStatus.IDLE
        assert value(connection, "SELECT count(*) FROM fleet.samples") == 2


@pytest.mark.parametrize("prepare_threshold", [0, 5, None])
def test_statements_repeat_prepared_and_unprepared(dsn: str, prepare_threshold: int | None) -> None:
    query = "SELECT 10 / %s::int"
    with connect(dsn, prepare_threshold=prepare_threshold) as connection:
        assert [value(connection, query, n) for n in range(1, 11)] == [
            10 // n for n in range(1, 11)
        ]
        with pytest.raises(psycopg.errors.DivisionByZero):
            value(connection, query, 0)
        assert value(connection, query, 5) == 2
        prepared = value(
            connection,
            "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE %s",
            "%/ $1%",
        )
        assert prepared == (prepare_threshold is not None)
        with connection.pipeline():
            cursors = [connection.execute(query, (n,)) for n in (1, 2, 5)]
        assert [cursor.fetchone() for cursor in cursors] == [(10,), (5,), (2,)]


def test_locks_and_notifications_are_understood(dsn: str) -> None:
    with connect(dsn) as connection:
        connection.execute("CREATE TABLE fleet.jobs (id int PRIMARY KEY)")
        connection.execute("INSERT INTO fleet.jobs SELECT generate_series(1, 3)")
        connection.execute("SELECT pg_advisory_lock(7)")
        assert value(connection, "SELECT objid::int FROM pg_locks WHERE locktype = 'advisory'") == 7
        assert value(connection, "SELECT pg_advisory_unlock(7)")
        claim = "SELECT id FROM fleet.jobs ORDER BY id LIMIT 2 FOR UPDATE SKIP LOCKED"
        assert connection.execute(claim).fetchall() == [(1,), (2,)]
        connection.execute("LISTEN jobs")
        connection.execute("SELECT pg_notify('jobs', 'new')")
        (notify,) = connection.notifies(timeout=5, stop_after=1)
        assert (notify.channel, notify.payload) == ("jobs", "new")


def test_a_client_leaves_nothing_to_the_next(dsn: str) -> None:
    first = psycopg.connect(dsn, prepare_threshold=0)
    first.execute("CREATE TABLE fleet.kept (id int)")
    first.execute("CREATE TEMPORARY TABLE gone (id int)")
    first.execute("SET search_path TO fleet")
    first.execute("SELECT pg_advisory_lock(7)")
    first.execute("LISTEN jobs")
    first.commit()
    first.execute("INSERT INTO kept VALUES (%s)", (1,))
    with pytest.raises(psycopg.errors.DivisionByZero):
        first.execute("SELECT 1 / %s::int", (0,))
    first.pgconn.finish()
    with connect(dsn, prepare_threshold=0) as second:
        assert status(second) == TransactionStatus.IDLE
        assert value(second, "SELECT count(*) FROM fleet.kept") == 0
        assert value(second, "SELECT to_regclass('gone') IS NULL")
        assert value(second, "SHOW search_path") == '"$user", public'
        assert value(second, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0
        assert value(second, "SELECT count(*) FROM pg_listening_channels()") == 0


def test_clients_take_turns_and_one_that_waits_in_vain_is_told_why(dsn: str) -> None:
    for _ in range(50):
        with connect(dsn) as connection:
            assert value(connection, "SELECT 1") == 1
    with connect(dsn) as connection:
        with pytest.raises(psycopg.OperationalError, match="one session"):
            connect(dsn)
        connection.cancel_safe(timeout=5)
        assert value(connection, "SELECT 1") == 1


async def test_a_pool_of_one_serves_many_tasks(dsn: str) -> None:
    with ConnectionPool(dsn, min_size=1, max_size=1, open=True) as pool:
        with pool.connection() as connection:
            connection.execute("CREATE TABLE fleet.numbers (number int)")
        with suppress(ZeroDivisionError), pool.connection() as connection:
            connection.execute("INSERT INTO fleet.numbers VALUES (-1)")
            raise ZeroDivisionError

    async with AsyncConnectionPool(dsn, min_size=1, max_size=1, open=False) as tasks:

        async def write(number: int) -> None:
            async with tasks.connection() as writer:
                await writer.execute("INSERT INTO fleet.numbers VALUES (%s)", (number,))

        await asyncio.gather(*(write(number) for number in range(50)))
        async with tasks.connection() as reader:
            cursor = await reader.execute("SELECT count(*), min(number) FROM fleet.numbers")
            assert await cursor.fetchone() == (50, 0)


def test_the_server_ends_with_its_parent() -> None:
    with subprocess.Popen(
        [timescale.program("node"), "server.mjs"],
        cwd=timescale.DIRECTORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b'{"port":')
        process.stdin.close()
        assert process.wait(timescale.STOP_TIMEOUT_S) == 0
        assert process.stdout.read() == b""


def test_a_missing_program_is_named_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("npm") is None
    with pytest.raises(RuntimeError, match=r"^npm is not installed: apt-get install nodejs npm$"):
        timescale.install()
