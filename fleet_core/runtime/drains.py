"""What the registry says is owed to the broker, and sending it.

A drain claims rows, publishes, waits for every PUBACK and then deletes, in one transaction: a crash
anywhere leaves the rows, so that what was owed is sent again. Each drain takes an advisory lock,
so that any number of processes may run it and one does.
"""

from __future__ import annotations

from fleet_core.contract.publication import publication
from fleet_core.contract.topics import TENANT_DEVICES
from fleet_core.registry.store import Registry
from fleet_core.runtime.mqtt import Connection

PAGE = 500
"""Rows of one transaction: it stays open until the broker confirmed them."""


async def drain_outbox(registry: Registry, connection: Connection) -> int:
    """Send the oldest of the outbox. Returns how many; 0 means that nothing is owed."""
    async with registry.transaction() as tx:
        ids, publications = await tx.outbox.claim(PAGE)
        if ids:
            await connection.publish_all(publications)
            await tx.outbox.delete(ids)
    return len(ids)


async def drain_live_changes(registry: Registry, connection: Connection) -> int:
    """Publish the present picture of devices that changed. Returns how many changes it settled."""
    async with registry.transaction() as tx:
        ids, device_ids = await tx.live_changes.claim(PAGE)
        if ids:
            pictures = await tx.devices.live(device_ids)
            await connection.publish_all(
                [
                    publication(TENANT_DEVICES, tenant_id, live, key=live.device_id)
                    for tenant_id, live in pictures
                ]
            )
            await tx.live_changes.delete(ids)
    return len(ids)
