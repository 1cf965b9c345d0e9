"""What devices report of themselves."""

from __future__ import annotations

from fleet_core.contract.codec import decode_as
from fleet_core.contract.messages import EventBatch, Receipt
from fleet_core.contract.topics import DEVICE_EVENTS
from fleet_core.runtime.routes import Inbound, Outcome
from handlers import events
from tests.fixtures.store import (
    BOOT_A,
    BOOT_B,
    MemoryRegistry,
    batch_of,
    context,
    event,
    inbound,
    seconds,
)

DAY = 86_400


def said(device_id: str, message: EventBatch) -> Inbound[EventBatch]:
    return inbound(DEVICE_EVENTS, device_id, message)


async def handle(registry: MemoryRegistry, *batch: Inbound[EventBatch]) -> Outcome:
    async with registry.transaction() as tx:
        return await events.handle(batch, tx, context())


def receipts(outcome: Outcome) -> list[tuple[str, list[tuple[int, int]]]]:
    found = [decode_as(Receipt, p.payload) for p in outcome.publish]
    return [(r.boot_id, r.ranges) for r in found]


async def test_events_are_stored_and_receipted_by_boot() -> None:
    registry = MemoryRegistry("gw-1")
    outcome = await handle(
        registry,
        said("gw-1", batch_of(event(1), event(2), event(5))),
        said("gw-1", batch_of(event(6))),
        said("gw-1", batch_of(event(6), boot=BOOT_B)),
    )
    assert receipts(outcome) == [(BOOT_A, [(1, 2), (5, 6)]), (BOOT_B, [(6, 6)])]
    assert len(registry.tables.events) == 5
    assert outcome.rejected == []


async def test_the_same_batch_again_is_stored_once_and_receipted_again() -> None:
    registry = MemoryRegistry("gw-1")
    message = said("gw-1", batch_of(event(1), event(1), event(2)))
    first, second = await handle(registry, message), await handle(registry, message)
    assert receipts(first) == receipts(second) == [(BOOT_A, [(1, 2)])]
    assert len(registry.tables.events) == 2


async def test_events_of_an_unknown_device_are_a_dead_letter_without_a_receipt() -> None:
    registry = MemoryRegistry("gw-1")
    outcome = await handle(registry, said("gw-9", batch_of(event())))
    assert [error.reason for _, error in outcome.rejected] == ["unknown_device"]
    assert outcome.publish == []
    assert (registry.tables.events, set(registry.tables.devices)) == ({}, {"gw-1"})


async def test_an_event_of_an_impossible_time_is_refused_by_itself_and_receipted() -> None:
    registry = MemoryRegistry("gw-1")
    batch = batch_of(event(1), event(2, at=seconds(2 * DAY)), event(3, at=seconds(-400 * DAY)))
    outcome = await handle(registry, said("gw-1", batch))
    assert receipts(outcome) == [(BOOT_A, [(1, 3)])]
    assert [r.event.seq for r in registry.tables.events.values()] == [1]
    ((_, error),) = outcome.rejected
    assert (error.reason, error.detail) == ("implausible_time", f"seq [2, 3] of {BOOT_A}")


async def test_a_whole_batch_of_impossible_times_is_one_short_dead_letter() -> None:
    registry = MemoryRegistry("gw-1")
    batch = batch_of(*(event(n, at=seconds(2 * DAY)) for n in range(1, 501)))
    outcome = await handle(registry, said("gw-1", batch))
    ((_, error),) = outcome.rejected
    assert len(error.detail) < 200
    assert receipts(outcome) == [(BOOT_A, [(1, 500)])]
