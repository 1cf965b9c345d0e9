"""The registry as a whole: a pool, and transactions that hold every noun.

    async with registry.transaction() as tx:
        states = await tx.states.lock(device_ids)

A transaction commits when its block ends and rolls back when the block raises. Errors of the
database arrive as `Unavailable` or `RefusedByDatabase` (`faults.py`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import psycopg
import psycopg_pool

from fleet_core.registry.counters import Counters
from fleet_core.registry.dead_letters import DeadLetters
from fleet_core.registry.devices import Devices
from fleet_core.registry.events import Events
from fleet_core.registry.faults import translated
from fleet_core.registry.heartbeats import Heartbeats
from fleet_core.registry.live_changes import LiveChanges
from fleet_core.registry.outbox import Outbox
from fleet_core.registry.requests import Requests
from fleet_core.registry.retention import Retention
from fleet_core.registry.services import Services
from fleet_core.registry.states import States

CHECKOUT_TIMEOUT_S = 5.0


class Transaction:
    """Everything a handler may read and write, in one transaction."""

    def __init__(self, connection: psycopg.AsyncConnection) -> None:
        self._connection = connection
        self.devices = Devices(connection)
        self.states = States(connection)
        self.heartbeats = Heartbeats(connection)
        self.events = Events(connection)
        self.dead_letters = DeadLetters(connection)
        self.outbox = Outbox(connection)
        self.requests = Requests(connection)
        self.services = Services(connection)
        self.counters = Counters(connection)
        self.retention = Retention(connection)
        self.live_changes = LiveChanges(connection)

    async def claim_devices(self, device_ids: Iterable[str]) -> None:
        """Lock the states of all devices this transaction will touch, in the order of their ids.

        A transaction that locks in several steps needs it: two processes would otherwise each
        hold what the other waits for.
        """
        await self.states.lock(set(device_ids))

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """What is written inside is undone when the block raises; the rest of the transaction
        goes on."""
        async with self._connection.transaction():
            yield


class Registry:
    """A pool of connections to one database. Made by `open_registry`."""

    def __init__(self, pool: psycopg_pool.AsyncConnectionPool) -> None:
        self._pool = pool

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """One transaction. Raises `DatabaseUnavailable` or `RefusedByDatabase`."""
        with translated():
            async with self._pool.connection() as connection:
                yield Transaction(connection)


@asynccontextmanager
async def open_registry(
    dsn: str, *, pool_size: int = 4, statement_timeout_s: float = 30.0
) -> AsyncIterator[Registry]:
    """Open the registry at `dsn`; returns at once, whether the server answers or not."""

    async def configure(connection: psycopg.AsyncConnection) -> None:
        await connection.execute(
            "SELECT set_config('timezone', 'UTC', false),"
            " set_config('statement_timeout', %s, false)",
            (f"{statement_timeout_s * 1000:.0f}",),
        )
        await connection.commit()

    pool = psycopg_pool.AsyncConnectionPool(
        dsn,
        min_size=1,
        max_size=pool_size,
        timeout=CHECKOUT_TIMEOUT_S,
        reconnect_timeout=CHECKOUT_TIMEOUT_S,
        configure=configure,
        open=False,
        name="registry",
    )
    await pool.open(wait=False)
    try:
        yield Registry(pool)
    finally:
        await pool.close()
