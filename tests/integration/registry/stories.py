"""What tests of the registry do again and again."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Any

import msgspec
from psycopg.rows import dict_row

from fleet_core.contract.messages import DeviceHealth, Heartbeat
from fleet_core.contract.operations import NewDevice
from fleet_core.registry.heartbeats import Record
from fleet_core.registry.store import Registry, Transaction
from fleet_core.rules.presence import DeviceState
from tests.fixtures.store import NOW, seconds

TENANT = "default"


async def fetch(tx: Transaction, query: str, **parameters: Any) -> list[dict[str, Any]]:
    """Rows of a query of the test's own."""
    async with tx._connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query.encode(), parameters or None)
        return await cursor.fetchall()


async def run(tx: Transaction, statement: str, **parameters: Any) -> None:
    """A statement of the test's own."""
    await tx._connection.execute(statement.encode(), parameters or None)


async def register(registry: Registry, *device_ids: str, **more: Any) -> None:
    """Devices with names of their ids, at site `berlin` unless told otherwise."""
    fields = {"site": "berlin", **more}
    devices = [NewDevice(**{"device_id": i, "name": i, **fields}) for i in device_ids]
    async with registry.transaction() as tx:
        assert await tx.devices.register(TENANT, devices) == sorted(device_ids)


async def put(registry: Registry, device_id: str, **fields: Any) -> None:
    """Change what is known of a device."""
    async with registry.transaction() as tx:
        state = (await tx.states.lock([device_id]))[device_id].state
        await tx.states.save([msgspec.structs.replace(state, **fields)])


async def put_online(registry: Registry, *device_ids: str, **fields: Any) -> None:
    """Devices heard at `NOW`, late 60 s and offline 300 s after it unless told otherwise."""
    heard = {
        "status": DeviceHealth.ONLINE,
        "score": 100,
        "last_heartbeat_at": NOW,
        "late_at": seconds(60),
        "offline_at": seconds(300),
    }
    for device_id in device_ids:
        await put(registry, device_id, **(heard | fields))


async def state_of(registry: Registry, device_id: str) -> DeviceState:
    """What is known of a device."""
    async with registry.transaction() as tx:
        return (await tx.states.lock([device_id]))[device_id].state


def record(device_id: str, heartbeat: Heartbeat, score: int = 100) -> Record:
    """A heartbeat received a second after it was sent."""
    return Record(device_id, heartbeat.at + timedelta(seconds=1), score, heartbeat)


async def insert(registry: Registry, records: Collection[Record]) -> int:
    """Store heartbeats; how many were new."""
    async with registry.transaction() as tx:
        return await tx.heartbeats.insert(list(records))
