"""Where faults happen: a broker, a database, the handlers, and a fleet that keeps a journal.

A scenario begins steady, is hurt, catches up, settles, and keeps its promises:

    async with arena(directory, broker, database_url, seed) as scene:
        ...hurt something...
        await scene.catch_up()
        await scene.settle()
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg

from tests.fixtures.brokers import RunningBroker
from tests.fixtures.checker import (
    Baseline,
    Journals,
    Snapshot,
    queued,
    read_database,
    read_journals,
    violations,
)
from tests.fixtures.eventually import eventually
from tests.fixtures.platform import (
    Handler,
    Platform,
    SimulatedFleet,
    register,
)

CATCH_UP_S = 45.0
"""Longer than a device waits for a receipt before it sends a record again (30 s)."""
DEVICES = 20
LOCK_LAST_STATEMENT = "SELECT FROM counters WHERE instance = 'ingest' FOR UPDATE"
"""The counter is the last thing a batch writes: who waits for it has all but committed."""


class Arena:
    """A steady scenario. `ingest` is the process most faults are about."""

    def __init__(
        self, platform: Platform, broker: RunningBroker, fleet: SimulatedFleet, seed: int
    ) -> None:
        self.platform, self.broker, self.fleet, self.seed = platform, broker, fleet, seed
        self.database_url = platform.database_url
        self.baselines: list[Baseline] = []

    @property
    def ingest(self) -> Handler:
        """The process that hears devices."""
        return self.platform["ingest"]

    def journals(self) -> Journals:
        """What the devices have noted so far."""
        return read_journals([self.fleet.journal])

    def snapshot(self) -> Snapshot:
        """What the database holds now."""
        return read_database(self.database_url)

    def count(self, query: str, *parameters: Any) -> int:
        """The number that `query` gives."""
        with psycopg.connect(self.database_url) as connection:
            row = connection.execute(query.encode(), parameters).fetchone()
        return int(row[0]) if row else 0

    def stored(self) -> int:
        """Heartbeats in the database."""
        return self.count("SELECT count(*) FROM heartbeats")

    def events(self, *kinds: tuple[str, str]) -> list[tuple[str, str, str]]:
        """Changes of status since ever, as (device, from, to); only those in `kinds` if given."""
        with psycopg.connect(self.database_url) as connection:
            rows = connection.execute(
                "SELECT device_id, data ->> 'from', data ->> 'to' FROM device_events"
                " WHERE kind = 'device.status' ORDER BY seq"
            ).fetchall()
        return [(d, a, b) for d, a, b in rows if not kinds or (a, b) in kinds]

    def statuses(self) -> dict[str, int]:
        """How many devices have each status."""
        with psycopg.connect(self.database_url) as connection:
            query = "SELECT status, count(*) FROM device_state GROUP BY status"
            return dict(connection.execute(query).fetchall())

    async def more_is_stored(self, more: int = 1, timeout_s: float = 20) -> None:
        """Wait until `more` heartbeats have been stored than now."""
        before = self.stored()
        await eventually(lambda: self.stored() >= before + more, timeout_s)

    async def catch_up(self, timeout_s: float = CATCH_UP_S) -> float:
        """Wait until everything the devices have sent up to now is stored; how long it took."""
        sent, loop = self.journals().sent, asyncio.get_running_loop()
        began_s = loop.time()

        def all_stored() -> bool:
            missing = sent - frozenset(self.snapshot().stored)
            assert not missing, f"{len(missing)} of {len(sent)} missing, {sorted(missing)[:3]}"
            return True

        await eventually(all_stored, timeout_s)
        return loop.time() - began_s

    async def settle(self, timeout_s: float = CATCH_UP_S) -> Snapshot:
        """End the fleet, wait until nothing moves any more, and check every promise."""
        if self.fleet.running:
            await self.catch_up(timeout_s)
            assert await asyncio.to_thread(self.fleet.terminate) == 0, self.fleet.log_text()
        journals = self.journals()

        def at_rest() -> Snapshot:
            snapshot = self.snapshot()
            waiting = len(journals.acked - frozenset(snapshot.stored))
            assert not waiting, f"{waiting} acknowledged records are not stored"
            assert not queued(snapshot), queued(snapshot)
            return snapshot

        snapshot = await eventually(at_rest, timeout_s)
        assert not violations(journals, snapshot), violations(journals, snapshot)
        await eventually(self._holds_no_more_than_before, 15)
        return snapshot

    def remember_vitals(self) -> None:
        """Take what every handler holds now as its baseline."""
        self.baselines = [Baseline.of(handler) for handler in self.platform.handlers.values()]

    def _holds_no_more_than_before(self) -> bool:
        excess = [line for baseline in self.baselines for line in baseline.excess()]
        assert not excess, excess
        return True


@asynccontextmanager
async def arena(
    directory: Path,
    broker: RunningBroker,
    database_url: str,
    seed: int,
    *,
    devices: int = DEVICES,
    ingest_url: str = "",
    presence_url: str = "",
    **settings: object,
) -> AsyncIterator[Arena]:
    """A steady scenario: every device has a stored heartbeat and is online. `ingest_url` and
    `presence_url` are what those processes connect to, where that is not the broker itself."""
    platform = Platform(directory, broker.url, database_url, **settings)
    fleet = SimulatedFleet(directory, broker.url, devices=devices, seed=seed)
    scene = Arena(platform, broker, fleet, seed)
    try:
        await register(database_url, fleet.device_ids)
        platform.handler(
            "presence", "operator", name="presence", broker_url=presence_url or broker.url
        )
        platform.handler("ingest", broker_url=ingest_url or broker.url)
        await scene.ingest.connects()
        await platform["presence"].connects(2)
        fleet.start()
        await eventually(lambda: scene.statuses() == {"online": devices}, 20)
        scene.remember_vitals()
        yield scene
    except BaseException as error:
        error.add_note(f"seed {seed}\n{platform.log_tails()}\n{fleet.log_text()[-1000:]}")
        raise
    finally:
        # In a thread: a goodbye may go through a proxy that lives in this loop.
        await asyncio.to_thread(fleet.terminate)
        await asyncio.to_thread(platform.stop)
