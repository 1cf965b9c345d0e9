"""What devices report of themselves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from fleet_core.contract.errors import ImplausibleTime, Rejected, UnknownDevice
from fleet_core.contract.messages import EventBatch
from fleet_core.registry.events import Record
from fleet_core.registry.store import Transaction
from fleet_core.runtime.routes import Context, Inbound, Outcome
from handlers.receipts import Owed, publications


async def handle(
    batch: Sequence[Inbound[EventBatch]], tx: Transaction, context: Context
) -> Outcome:
    """Store events and receipt them. An event of an impossible time is refused by itself; its
    receipt is given all the same, since sending it again would not make it better."""
    known = await tx.devices.known({inbound.identity for inbound in batch})
    records: list[Record] = []
    owed: Owed = defaultdict(list)
    rejected: list[tuple[Inbound[EventBatch], Rejected]] = []
    for inbound in batch:
        device_id, boot_id = inbound.identity, inbound.message.boot_id
        if device_id not in known:
            rejected.append((inbound, UnknownDevice(device_id)))
            continue
        events = inbound.message.events
        owed[device_id, boot_id] += [event.seq for event in events]
        sound = [e for e in events if context.window.holds(e.at, inbound.received_at)]
        records += [Record(device_id, boot_id, inbound.received_at, event) for event in sound]
        if len(sound) < len(events):
            refused = sorted({e.seq for e in events} - {e.seq for e in sound})
            rejected.append((inbound, ImplausibleTime(f"seq {refused[:20]} of {boot_id}")))
    # In one order everywhere: two processes with the same events must not wait in a ring.
    records.sort(key=lambda record: (record.device_id, record.boot_id, record.event.seq))
    await tx.events.insert(records)
    return Outcome(publish=publications(owed), rejected=list(rejected))
