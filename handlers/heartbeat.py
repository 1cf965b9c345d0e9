"""Heartbeats: load the states, decide with `rules.presence`, write, receipt."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import msgspec

from fleet_core.contract.errors import ImplausibleTime, Rejected, UnknownDevice
from fleet_core.contract.messages import Heartbeat
from fleet_core.registry.counters import HEARTBEATS_STORED
from fleet_core.registry.heartbeats import Record
from fleet_core.registry.states import Loaded
from fleet_core.registry.store import Transaction
from fleet_core.rules import health, presence
from fleet_core.rules.presence import DeviceState, PlatformEvent
from fleet_core.runtime.routes import Context, Inbound, Outcome
from handlers.receipts import Owed, publications


class Decision(msgspec.Struct):
    """What a batch of heartbeats leads to."""

    states: dict[str, DeviceState] = {}
    records: list[Record] = []
    events: list[PlatformEvent] = []
    infos: dict[str, Heartbeat] = {}
    receipts: Owed = msgspec.field(default_factory=lambda: defaultdict(list))
    rejected: list[tuple[Inbound[Heartbeat], Rejected]] = []


async def handle(batch: Sequence[Inbound[Heartbeat]], tx: Transaction, context: Context) -> Outcome:
    """Store a batch of heartbeats and what follows from them."""
    loaded = await tx.states.lock({inbound.identity for inbound in batch})
    decision = decide(batch, loaded, context)
    stored = await tx.heartbeats.insert(decision.records)
    await tx.states.save(list(decision.states.values()))
    await tx.events.insert_of_platform(decision.events)
    await tx.devices.save_info(decision.infos)
    await tx.live_changes.insert(changed_pictures(decision.states, loaded))
    await tx.counters.add(HEARTBEATS_STORED, context.instance, stored, context.clock())
    return Outcome(publish=publications(decision.receipts), rejected=list(decision.rejected))


def decide(
    batch: Sequence[Inbound[Heartbeat]], loaded: Mapping[str, Loaded], context: Context
) -> Decision:
    """Fold the batch, in order of arrival, over the states it was loaded with."""
    decision = Decision()
    for inbound in batch:
        device_id, beat, received_at = inbound.identity, inbound.message, inbound.received_at
        if device_id not in loaded:
            decision.rejected.append((inbound, UnknownDevice(device_id)))
            continue
        state = decision.states.get(device_id) or loaded[device_id].state
        score = health.score(beat.metrics, beat.connectors, context.health)
        change = presence.heard_heartbeat(state, beat, received_at, score, context.presence)
        decision.states[device_id] = change.state
        decision.events += change.events
        if beat.info is not None and beat.boot_id == change.state.boot_id:
            known = decision.infos.get(device_id)
            if known is None or known.seq < beat.seq:
                decision.infos[device_id] = beat
        if beat.receipt:
            decision.receipts[device_id, beat.boot_id].append(beat.seq)
        if context.window.holds(beat.at, received_at):
            decision.records.append(Record(device_id, received_at, score, beat))
        else:
            decision.rejected.append((inbound, ImplausibleTime(f"device time {beat.at}")))
    return decision


def changed_pictures(states: Mapping[str, DeviceState], loaded: Mapping[str, Loaded]) -> list[str]:
    """The devices that look different now: another status, score or count of connectors."""
    return [
        device_id
        for device_id, state in states.items()
        if _looks_different(state, loaded[device_id])
    ]


def _looks_different(state: DeviceState, before: Loaded) -> bool:
    if state.status is not before.state.status or state.score != before.state.score:
        return True
    if state.sample is None:
        return False
    connectors = state.sample.connectors
    return (
        len(connectors) != before.connectors_total
        or health.running(connectors) != before.connectors_running
    )
