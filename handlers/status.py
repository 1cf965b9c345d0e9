"""Births, goodbyes and wills of devices."""

from __future__ import annotations

from collections.abc import Sequence

from fleet_core.contract.errors import Rejected, UnknownDevice
from fleet_core.contract.messages import DeviceStatus
from fleet_core.registry.store import Transaction
from fleet_core.rules import presence
from fleet_core.rules.presence import DeviceState, PlatformEvent
from fleet_core.runtime.routes import Context, Inbound, Outcome
from handlers.heartbeat import changed_pictures


async def handle(
    batch: Sequence[Inbound[DeviceStatus]], tx: Transaction, context: Context
) -> Outcome:
    """Apply what devices, or the broker in their name, say of their presence."""
    loaded = await tx.states.lock({inbound.identity for inbound in batch})
    states: dict[str, DeviceState] = {}
    events: list[PlatformEvent] = []
    rejected: list[tuple[Inbound[DeviceStatus], Rejected]] = []
    for inbound in batch:
        if inbound.identity not in loaded:
            rejected.append((inbound, UnknownDevice(inbound.identity)))
            continue
        state = states.get(inbound.identity) or loaded[inbound.identity].state
        change = presence.heard_status(
            state, inbound.message, inbound.received_at, context.presence
        )
        states[inbound.identity] = change.state
        events += change.events
    changed = {key: state for key, state in states.items() if state is not loaded[key].state}
    await tx.states.save(list(changed.values()))
    await tx.events.insert_of_platform(events)
    await tx.live_changes.insert(changed_pictures(changed, loaded))
    return Outcome(rejected=list(rejected))
