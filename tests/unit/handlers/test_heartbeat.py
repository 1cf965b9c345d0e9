"""Heartbeats: what a batch of them leads to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from fleet_core.contract.codec import decode_as
from fleet_core.contract.messages import (
    Connector,
    ConnectorStatus,
    DeviceHealth,
    DeviceInfo,
    Heartbeat,
    Receipt,
)
from fleet_core.contract.topics import DEVICE_HEARTBEAT, DEVICE_RECEIPTS
from fleet_core.registry.counters import HEARTBEATS_STORED
from fleet_core.registry.states import Loaded
from fleet_core.runtime.routes import Inbound
from handlers import heartbeat
from handlers.heartbeat import changed_pictures, decide
from tests.fixtures.store import (
    BOOT_A,
    BOOT_B,
    MemoryRegistry,
    beat,
    context,
    device_state,
    inbound,
    metrics,
    seconds,
)

RUNNING = Connector(name="a", status=ConnectorStatus.RUNNING)
FAILED = Connector(name="b", status=ConnectorStatus.FAILED)
DAY = 86_400
CONTEXT = context()


def said(device_id: str, message: Heartbeat, s: float = 0) -> Inbound[Heartbeat]:
    return inbound(DEVICE_HEARTBEAT, device_id, message, s=s)


def known(*device_ids: str, **state: Any) -> Mapping[str, Loaded]:
    return {i: Loaded(device_state(i, **state), 0, 0) for i in device_ids}


def test_an_unknown_device_is_rejected_and_leads_to_nothing() -> None:
    decision = decide([said("gw-9", beat(receipt=True))], known("gw-1"), CONTEXT)
    ((message, error),) = decision.rejected
    assert (message.identity, error.reason) == ("gw-9", "unknown_device")
    assert (decision.states, decision.records, decision.events, decision.infos) == ({}, [], [], {})
    assert not decision.receipts


async def test_an_unknown_device_never_becomes_a_row() -> None:
    registry = MemoryRegistry("gw-1")
    async with registry.transaction() as tx:
        outcome = await heartbeat.handle([said("gw-9", beat())], tx, CONTEXT)
    assert [error.reason for _, error in outcome.rejected] == ["unknown_device"]
    assert set(registry.tables.devices) == set(registry.tables.states) == {"gw-1"}
    assert registry.tables.live_changes == []


@pytest.mark.parametrize("at_s", [-367 * DAY, DAY + 1], ids=["past", "future"])
def test_an_implausible_time_is_state_and_receipt_and_dead_letter_but_no_history(
    at_s: float,
) -> None:
    message = beat(5, at=seconds(at_s), receipt=True)
    decision = decide([said("gw-1", message)], known("gw-1"), CONTEXT)
    assert decision.records == []
    assert decision.states["gw-1"].status is DeviceHealth.ONLINE
    assert decision.states["gw-1"].sample == message
    assert decision.receipts == {("gw-1", BOOT_A): [5]}
    assert [error.reason for _, error in decision.rejected] == ["implausible_time"]


@pytest.mark.parametrize("at_s", [-366 * DAY, DAY], ids=["past", "future"])
def test_the_edge_of_what_is_plausible_is_history(at_s: float) -> None:
    decision = decide([said("gw-1", beat(at=seconds(at_s)))], known("gw-1"), CONTEXT)
    assert len(decision.records) == 1
    assert decision.rejected == []


def test_a_batch_is_folded_in_the_order_of_arrival() -> None:
    hot = metrics(cpu=95)
    batch = [
        said("gw-1", beat(1), 0),
        said("gw-2", beat(1), 0.1),
        said("gw-1", beat(2, metrics=hot), 1),
        said("gw-1", beat(3), 2),
        said("gw-1", beat(2, metrics=hot), 3),
    ]
    decision = decide(batch, known("gw-1", "gw-2"), CONTEXT)
    state = decision.states["gw-1"]
    assert (state.seq, state.score, state.last_heartbeat_at) == (3, 100, seconds(3))
    assert [r.score for r in decision.records] == [100, 100, 70, 100, 70]
    assert [(e.device_id, e.message) for e in decision.events] == [
        ("gw-1", "unseen -> online (heartbeat)"),
        ("gw-2", "unseen -> online (heartbeat)"),
        ("gw-1", "online -> warning (score)"),
        ("gw-1", "warning -> online (heartbeat)"),
    ]


def test_receipts_are_exactly_for_those_who_asked() -> None:
    batch = [
        said("gw-1", beat(1, receipt=True)),
        said("gw-1", beat(2)),
        said("gw-1", beat(3, receipt=True)),
        said("gw-1", beat(9, BOOT_B, receipt=True)),
        said("gw-2", beat(3)),
        said("gw-9", beat(4, receipt=True)),
    ]
    decision = decide(batch, known("gw-1", "gw-2"), CONTEXT)
    assert decision.receipts == {("gw-1", BOOT_A): [1, 3], ("gw-1", BOOT_B): [9]}


async def test_receipts_are_published_to_the_device_by_boot() -> None:
    registry = MemoryRegistry("gw-1")
    batch = [said("gw-1", beat(n, receipt=True)) for n in (1, 2, 4)]
    async with registry.transaction() as tx:
        outcome = await heartbeat.handle(batch, tx, CONTEXT)
    (publication,) = outcome.publish
    assert publication.topic == DEVICE_RECEIPTS.topic("gw-1")
    assert (publication.qos, publication.retain) == (0, False)
    assert decode_as(Receipt, publication.payload) == Receipt(
        boot_id=BOOT_A, ranges=[(1, 2), (4, 4)]
    )
    assert outcome.owe == []


def test_what_a_device_says_of_itself_is_the_last_of_its_boot_in_whatever_order_it_comes() -> None:
    old, new = DeviceInfo(hostname="old"), DeviceInfo(hostname="new")
    for batch, expected in (
        ([beat(5, info=new), beat(4, info=old)], new),
        ([beat(4, info=old), beat(5)], old),
        ([beat(5), beat(4, info=old)], old),
    ):
        decision = decide([said("gw-1", b) for b in batch], known("gw-1"), CONTEXT)
        assert decision.infos["gw-1"].info == expected


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (beat(2), []),
        (beat(2, metrics=metrics(cpu=60)), []),
        (beat(2, metrics=metrics(disk=85)), ["gw-1"]),
        (beat(2, metrics=metrics(cpu=95)), ["gw-1"]),
        (beat(2, connectors=[RUNNING]), ["gw-1"]),
        (beat(2, connectors=[FAILED]), ["gw-1"]),
    ],
    ids=["nothing", "a number in its band", "score", "status", "a connector", "a failed one"],
)
async def test_a_picture_is_out_of_date_only_when_it_looks_different(
    message: Heartbeat, expected: list[str]
) -> None:
    registry = MemoryRegistry("gw-1")
    async with registry.transaction() as tx:
        await heartbeat.handle([said("gw-1", beat(1))], tx, CONTEXT)
        assert registry.tables.live_changes == ["gw-1"]
        registry.tables.live_changes.clear()
        await heartbeat.handle([said("gw-1", message, 30)], tx, CONTEXT)
    assert registry.tables.live_changes == expected


def test_connectors_that_change_places_look_the_same_and_one_that_fails_does_not() -> None:
    loaded = {"gw-1": Loaded(device_state("gw-1", score=90), 1, 2)}
    for connectors, expected in (([FAILED, RUNNING], []), ([RUNNING, RUNNING], ["gw-1"])):
        state = device_state("gw-1", score=90, sample=beat(connectors=connectors))
        assert changed_pictures({"gw-1": state}, loaded) == expected


async def test_stored_heartbeats_are_counted_and_repeated_ones_are_not() -> None:
    registry = MemoryRegistry("gw-1")
    for _ in range(2):
        async with registry.transaction() as tx:
            await heartbeat.handle([said("gw-1", beat(n)) for n in (1, 2, 2)], tx, CONTEXT)
    assert registry.tables.counters[HEARTBEATS_STORED, "test"] == 2
