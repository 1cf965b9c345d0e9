"""Retention: rows of plain tables in batches, whole chunks of hypertables, and nothing younger."""

from __future__ import annotations

from datetime import timedelta

import pytest

from fleet_core.registry import retention
from fleet_core.registry.dead_letters import DeadLetter
from fleet_core.registry.events import Record
from fleet_core.registry.migrate import Profile
from fleet_core.registry.store import Registry
from fleet_core.runtime.config import load
from handlers.presence import expire
from tests.fixtures.store import BOOT_A, NOW, beat, context, event, seconds
from tests.integration.registry.conftest import Storage
from tests.integration.registry.stories import fetch, insert, record

DAY = 86_400
DAYS = 400


async def fill(registry: Registry) -> None:
    """A record of everything for each of the last `DAYS` days."""
    ages = [seconds(-DAY * n - 60) for n in range(DAYS)]
    await insert(registry, [record("gw-1", beat(n + 1, at=at)) for n, at in enumerate(ages)])
    async with registry.transaction() as tx:
        await tx.events.insert(
            [Record("gw-1", BOOT_A, NOW, event(n + 1, at=at)) for n, at in enumerate(ages)]
        )
        await tx.dead_letters.insert([DeadLetter(at, "t", "r", "d", b"", 0) for at in ages])
        for n, at in enumerate(ages[:10]):
            await tx.requests.insert("o", str(n), operation="x", received_at=at, response=b"")


async def left(registry: Registry) -> dict[str, int]:
    relations = (*retention.HISTORIES, *retention.TABLES)
    async with registry.transaction() as tx:
        return {
            name: (await fetch(tx, f"SELECT count(*) AS n FROM {name}"))[0]["n"]
            for name in relations
        }


async def test_what_is_older_goes_and_what_is_younger_stays(
    registry: Registry, storage: Storage
) -> None:
    await fill(registry)
    await expire(registry, context(), load({}))
    rows = await left(registry)
    slack = 0 if storage.profile is Profile.PLAIN else 8  # chunks go when all of them is old
    assert 90 <= rows["heartbeats"] <= 90 + slack
    assert 365 <= rows["device_events"] <= 365 + slack
    assert (rows["dead_letters"], rows["operator_requests"]) == (30, 7)
    await expire(registry, context(), load({}))
    assert await left(registry) == rows


async def test_chunks_are_given_back_whole(registry: Registry, storage: Storage) -> None:
    await fill(registry)
    before = NOW - timedelta(days=90)
    async with registry.transaction() as tx:
        gone = await tx.retention.expire("heartbeats", before)
    expected = DAYS - 90
    if storage.profile is Profile.PLAIN:
        assert gone == expected
        return
    assert abs(gone - expected) <= 1
    async with registry.transaction() as tx:
        (row,) = await fetch(tx, "SELECT count(*) AS n FROM show_chunks('heartbeats')")
    assert abs(row["n"] - 91) <= 1


async def test_a_backlog_goes_in_batches(
    registry: Registry, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 150)
    await fill(registry)
    relations = ["dead_letters"]
    if storage.profile is Profile.PLAIN:
        relations += retention.HISTORIES
    for relation in relations:
        gone: list[int] = []
        while not gone or gone[-1]:
            async with registry.transaction() as tx:
                gone.append(await tx.retention.expire(relation, NOW))
        assert gone == [150, 150, 100, 0], relation


async def test_an_empty_history_expires_nothing(registry: Registry) -> None:
    async with registry.transaction() as tx:
        for relation in (*retention.HISTORIES, *retention.TABLES):
            assert await tx.retention.expire(relation, NOW) == 0
