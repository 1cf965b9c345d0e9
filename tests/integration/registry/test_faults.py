"""What a database error means: try again, refuse the row, or a bug."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest

from fleet_core.contract.errors import RefusedByDatabase, Unavailable
from fleet_core.contract.messages import Request
from fleet_core.contract.publication import Publication
from fleet_core.contract.topics import DEVICE_HEARTBEAT, OPERATOR_REQUESTS, SERVICE_STATUS
from fleet_core.registry import store
from fleet_core.registry.faults import DatabaseUnavailable
from fleet_core.registry.store import Registry, Transaction, open_registry
from fleet_core.runtime.dispatch import Dispatcher
from fleet_core.runtime.refusals import Refusals
from fleet_core.runtime.routes import Context, Inbound, Outcome, Route
from tests.fixtures.store import NOW, beat, context, delivery, seconds, service_status
from tests.integration.registry.stories import fetch, register, run


async def backend(registry: Registry) -> int:
    async with registry.transaction() as tx:
        (row,) = await fetch(tx, "SELECT pg_backend_pid() AS pid")
    return int(row["pid"])


def terminate(url: str, pid: int) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))


async def test_a_statement_that_takes_too_long_is_tried_again(database_url: str) -> None:
    async with open_registry(database_url, pool_size=1, statement_timeout_s=0.05) as registry:
        with pytest.raises(DatabaseUnavailable, match="statement timeout"):
            async with registry.transaction() as tx:
                await run(tx, "SELECT pg_sleep(30)")
        await register(registry, "gw-1")


async def test_a_connection_that_was_cut_while_idle_is_replaced(database_url: str) -> None:
    async with open_registry(database_url, pool_size=1) as registry:
        terminate(database_url, await backend(registry))
        with pytest.raises(DatabaseUnavailable):
            await backend(registry)
        await register(registry, "gw-1")


async def test_a_connection_that_is_cut_in_a_transaction_leaves_nothing(database_url: str) -> None:
    async def write(registry: Registry) -> None:
        async with registry.transaction() as tx:
            await tx.counters.add("x", "y", 1, NOW)
            (row,) = await fetch(tx, "SELECT pg_backend_pid() AS pid")
            terminate(database_url, row["pid"])
            await tx.counters.add("x", "y", 1, NOW)

    async with open_registry(database_url, pool_size=1) as registry:
        with pytest.raises(DatabaseUnavailable):
            await write(registry)
        async with registry.transaction() as tx:
            assert await tx.counters.totals() == {}


async def test_every_connection_of_a_pool_that_was_cut_is_replaced(database_url: str) -> None:
    async with open_registry(database_url, pool_size=3) as registry:
        async with registry.transaction() as a, registry.transaction() as b:
            pids = [(await fetch(tx, "SELECT pg_backend_pid() AS pid"))[0]["pid"] for tx in (a, b)]
        for pid in pids:
            terminate(database_url, pid)
        failures = 0
        for _ in range(len(pids) + 1):
            try:
                await backend(registry)
            except Unavailable:
                failures += 1
        assert failures <= len(pids)
        await register(registry, "gw-1")


async def test_no_connection_in_time_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "CHECKOUT_TIMEOUT_S", 0.2)
    async with open_registry(f"postgresql://fleet@/fleet?host={tmp_path}") as registry:
        with pytest.raises(DatabaseUnavailable, match="no database connection"):
            await backend(registry)


async def test_more_work_than_connections_waits_and_then_is_unavailable(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "CHECKOUT_TIMEOUT_S", 0.2)
    async with open_registry(database_url, pool_size=1) as registry:
        async with registry.transaction():
            with pytest.raises(DatabaseUnavailable):
                await backend(registry)
        assert await backend(registry)


@pytest.mark.parametrize(
    ("statement", "value"),
    [
        ("SELECT %(value)s::smallint", 40_000),
        ("SELECT %(value)s::jsonb", '"\\u0000"'),
        ("SELECT %(value)s::jsonb", "{"),
        ("SELECT %(value)s::text", "a\0b"),
        ("SELECT %(value)s::timestamptz", "2026-03-02T09:30:00+16:00"),
        ("SELECT %(value)s::real", "1e-50"),
        ("SELECT %(value)s::bigint + 1", 2**63 - 1),
        ("INSERT INTO tenants VALUES (%(value)s)", "default"),
        ("INSERT INTO sites VALUES (%(value)s, 'a')", "nobody"),
        ("INSERT INTO sites VALUES (%(value)s, 'a')", None),
    ],
)
async def test_what_the_data_is_to_blame_for_is_refused(
    registry: Registry, statement: str, value: object
) -> None:
    with pytest.raises(RefusedByDatabase) as refusal:
        async with registry.transaction() as tx:
            await run(tx, statement, value=value)
    assert len(refusal.value.detail) <= 300
    await register(registry, "gw-1")


async def test_a_server_that_only_reads_is_unavailable(registry: Registry) -> None:
    async def write() -> None:
        async with registry.transaction() as tx:
            await run(tx, "SET TRANSACTION READ ONLY")
            await tx.counters.add("x", "y", 1, NOW)

    with pytest.raises(DatabaseUnavailable, match="read-only"):
        await write()
    async with registry.transaction() as tx:
        await tx.counters.add("x", "y", 1, NOW)


async def test_a_lock_that_is_not_to_be_had_is_tried_again(plain_registry: Registry) -> None:
    async def lock_too() -> None:
        async with plain_registry.transaction() as other:
            await run(other, "SET LOCAL lock_timeout = '10ms'")
            await other.states.lock(["gw-1"])

    await register(plain_registry, "gw-1")
    async with plain_registry.transaction() as tx:
        await tx.states.lock(["gw-1"])
        with pytest.raises(DatabaseUnavailable):
            await lock_too()


@pytest.mark.parametrize("statement", ["SELEC 1", "SELECT nothing(1)", "SELECT 1 = ARRAY[1]"])
async def test_a_mistake_of_ours_stays_what_it_is(registry: Registry, statement: str) -> None:
    with pytest.raises(psycopg.ProgrammingError):
        async with registry.transaction() as tx:
            await run(tx, statement)


async def test_the_time_zone_of_a_session_is_utc(registry: Registry) -> None:
    async with registry.transaction() as tx:
        assert await fetch(tx, "SHOW timezone") == [{"TimeZone": "UTC"}]


async def test_a_database_that_was_not_migrated_is_waited_for(empty_database_url: str) -> None:
    async with open_registry(empty_database_url, pool_size=1) as registry:
        with pytest.raises(DatabaseUnavailable, match="counters"):
            async with registry.transaction() as tx:
                await tx.counters.totals()


async def test_a_request_that_takes_too_long_is_answered_and_stops_nobody(
    database_url: str,
) -> None:
    """It was tried again for ever, before every other operator's request and across restarts."""

    async def slow(_inbound: Any, tx: Transaction, _context: Context) -> Outcome:
        await run(tx, "SELECT pg_sleep(30)")
        return Outcome()

    async def quick(inbound: Inbound[Any], _tx: Transaction, _context: Context) -> Outcome:
        return Outcome(publish=[Publication(inbound.identity, b"answer")])

    routes = [
        Route(OPERATOR_REQUESTS, slow, apologise=lambda i: [Publication(i.identity, b"sorry")]),
        Route(SERVICE_STATUS, quick),
    ]
    request = Request(request_id="r", operation="x.y", expires_at=seconds(60))
    async with open_registry(database_url, pool_size=1, statement_timeout_s=0.1) as registry:
        refusals = Refusals(payload_limit_bytes=100, limit_per_minute=100)
        work = Dispatcher(routes, registry, context(), refusals)
        published = await work.handle(
            [
                delivery(SERVICE_STATUS, "service.a", service_status()),
                delivery(OPERATOR_REQUESTS, "operator.alice", request, key="r"),
                delivery(SERVICE_STATUS, "service.b", service_status()),
            ]
        )
    assert sorted(p.payload for p in published) == [b"answer", b"answer", b"sorry"]
    assert refusals.counts == {"took_too_long": 1}


async def test_a_batch_without_anybody_who_waits_is_kept_for_another_try(
    database_url: str,
) -> None:
    async def slow(_batch: Any, tx: Transaction, _context: Context) -> Outcome:
        await run(tx, "SELECT pg_sleep(30)")
        return Outcome()

    async with open_registry(database_url, pool_size=1, statement_timeout_s=0.1) as registry:
        refusals = Refusals(payload_limit_bytes=100, limit_per_minute=100)
        work = Dispatcher(
            [Route(DEVICE_HEARTBEAT, handle_batch=slow)], registry, context(), refusals
        )
        with pytest.raises(DatabaseUnavailable, match="given up"):
            await work.handle([delivery(DEVICE_HEARTBEAT, "gw-1", beat(n)) for n in (1, 2)])
    assert refusals.counts == {}
