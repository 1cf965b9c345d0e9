"""What operators ask, answered from a real registry: every operation of the contract."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import msgspec
import pytest

from fleet_core.contract import operations as contract
from fleet_core.contract.codec import encode
from fleet_core.contract.messages import (
    Connector,
    ConnectorStatus,
    DeviceHealth,
    DeviceInfo,
    Farewell,
    Heartbeat,
    Presence,
)
from fleet_core.contract.operations import OPERATIONS, ErrorCode
from fleet_core.contract.publication import Delivery
from fleet_core.contract.topics import DEVICE_EVENTS, DEVICE_HEARTBEAT, DEVICE_STATUS
from fleet_core.registry.counters import HEARTBEATS_STORED
from fleet_core.registry.dead_letters import DeadLetter
from fleet_core.registry.store import Registry
from fleet_core.rules.health import Band, Thresholds
from fleet_core.runtime.dispatch import Dispatcher
from fleet_core.runtime.refusals import Refusals
from handlers.operations import IMPLEMENTATIONS, Refused
from handlers.presence import announce_all, sweep
from handlers.roles import INGEST
from tests.fixtures.store import (
    BOOT_A,
    NOW,
    batch_of,
    beat,
    context,
    delivery,
    event,
    metrics,
    seconds,
    service_status,
    status,
)
from tests.integration.registry.stories import put_online, register

SAMPLE = metrics(
    12.5, 95, 50, custom={"x": 1e300, "y": -1e300, "z": 0.1}, uptime_s=2**62, cpu_count=4
)
INFO = DeviceInfo(hostname="h", addresses=["192.0.2.1"], os="Debian")
CONNECTORS = [Connector(name="c", type="t", status=ConnectorStatus.RUNNING), Connector(name="d")]
WHOLE = beat(7, metrics=SAMPLE, connectors=CONNECTORS, info=INFO, receipt=True)


async def ask(registry: Registry, operation: str, s: float = 0, **params: Any) -> Any:
    """Carry an operation out as its handler does; the answer as an operator decodes it."""
    row = OPERATIONS[operation]
    async with registry.transaction() as tx:
        found = await IMPLEMENTATIONS[operation](
            msgspec.convert(params, row.params), tx, context(lambda: seconds(s))
        )
    return msgspec.json.decode(encode(found), type=row.result)


async def dispatch(registry: Registry, *deliveries: Delivery, **rules: Any) -> int:
    """Carry deliveries through every station; how many publications come out."""
    refusals = Refusals(payload_limit_bytes=100, limit_per_minute=100)
    work = Dispatcher(INGEST.routes, registry, context(**rules), refusals)
    return len(await work.handle(deliveries))


def heartbeat(device_id: str, message: Heartbeat, s: float = 0) -> Delivery:
    return delivery(DEVICE_HEARTBEAT, device_id, message, s=s)


async def test_a_device_whole(registry: Registry) -> None:
    await register(registry, "gw-1", name="Gateway", owner="ops", tags={"a": "b"})
    told = [
        delivery(DEVICE_STATUS, "gw-1", status(Farewell.BIRTH, 3)),
        heartbeat("gw-1", WHOLE, 1),
        delivery(DEVICE_EVENTS, "gw-1", batch_of(event(8, data={"n": 10**30})), s=2),
    ]
    assert await dispatch(registry, *told) == 2
    shown: contract.DeviceDetail = await ask(registry, "device.show", device_id="gw-1", events=5)
    assert shown.device.status is DeviceHealth.WARNING
    assert (shown.device.score, shown.device.uptime_s) == (65, 2**62)
    assert (shown.device.connectors_running, shown.device.connectors_total) == (1, 2)
    assert (shown.device.last_seen_at, shown.device.hostname) == (seconds(1), "h")
    assert (shown.metrics, shown.connectors, shown.info) == (SAMPLE, CONNECTORS, INFO)
    assert (shown.boot_id, shown.session, shown.interval_s) == (BOOT_A, 3, 30)
    assert (shown.owner, shown.tenant, shown.lifecycle) == ("ops", "default", "provisioned")
    assert [(e.source, e.kind) for e in shown.events] == [
        ("platform", "device.status"),
        ("device", "agent.started"),
    ]
    assert shown.events[1].data == {"n": 10**30}


async def test_a_device_nobody_heard_of_yet(registry: Registry) -> None:
    await register(registry, "gw-1")
    shown: contract.DeviceDetail = await ask(registry, "device.show", device_id="gw-1")
    assert (shown.metrics, shown.connectors, shown.boot_id, shown.events) == (None, [], None, [])
    assert (shown.device.status, shown.device.last_seen_at) == (DeviceHealth.UNSEEN, None)


@pytest.mark.parametrize("operation", ["device.show", "device.events"])
@pytest.mark.parametrize("device_id", ["gw-9", "", "' OR 1=1 --", "\N{SNOWMAN}" * 200])
async def test_a_device_that_is_not_there(
    registry: Registry, operation: str, device_id: str
) -> None:
    with pytest.raises(Refused) as refusal:
        await ask(registry, operation, device_id=device_id)
    assert refusal.value.body.code == ErrorCode.NOT_FOUND
    assert len(refusal.value.body.message) < 200


async def test_lists_and_events_are_pages_with_totals(registry: Registry) -> None:
    await register(registry, "gw-1", "gw-2", "gw-3")
    await dispatch(
        registry, delivery(DEVICE_EVENTS, "gw-1", batch_of(*(event(n) for n in range(1, 6))))
    )
    page: contract.DevicePage = await ask(registry, "device.list", limit=2, offset=1)
    assert ([d.device_id for d in page.devices], page.total) == (["gw-2", "gw-3"], 3)
    events: contract.DeviceEventPage = await ask(
        registry, "device.events", device_id="gw-1", limit=2, kind="agent.started"
    )
    assert (len(events.events), events.total) == (2, 5)


async def test_the_fleet_at_a_glance(registry: Registry) -> None:
    await register(registry, "a1", "a2", "b1", "c1")
    await put_online(registry, "a1", sample=beat(metrics=metrics(10, 20, 30)))
    await put_online(registry, "a2", sample=beat(metrics=metrics(20, 20, 90)))
    await put_online(
        registry, "b1", status=DeviceHealth.OFFLINE, sample=beat(metrics=metrics(99, 99, 99))
    )
    async with registry.transaction() as tx:
        await tx.counters.add(HEARTBEATS_STORED, "i", 12, seconds(-9))
        await tx.services.save("service.a", service_status(interval_s=10), seconds(-31))
        await tx.services.save("service.b", service_status(interval_s=10), seconds(-30))
        await tx.services.save("service.c", service_status(state=Presence.OFFLINE), seconds(-99))
    found: contract.FleetSummary = await ask(registry, "fleet.status")
    assert (found.devices, found.by_status["online"], found.by_status["unseen"]) == (4, 2, 1)
    assert set(found.by_status) == {health.value for health in DeviceHealth}
    assert found.health_percent == 66.7
    assert found.cpu == contract.Usage(mean_percent=15, peak_percent=20)
    assert found.disk == contract.Usage(mean_percent=60, peak_percent=90)
    assert (found.heartbeats_stored, found.first_heartbeat_at) == (12, seconds(-9))
    assert [p.state for p in found.processes] == ["late", "online", "offline"]


async def test_an_empty_fleet_at_a_glance(registry: Registry) -> None:
    found: contract.FleetSummary = await ask(registry, "fleet.status")
    assert (found.devices, found.health_percent, found.heartbeats_stored) == (0, None, 0)
    assert found.cpu == contract.Usage(mean_percent=None, peak_percent=None)


@pytest.mark.parametrize(
    ("payload", "size", "text"),
    [
        (b"caf\xc3\xa9\0", 6, "café\0"),
        (b"\xff", 1, ""),
        (b"cut", 5000, "cut"),
        (b"", 0, ""),
        (b"x" * 98_304, 98_304, "x" * 98_304),  # as long as a payload can be
    ],
)
async def test_a_dead_letter_whole(
    registry: Registry, payload: bytes, size: int, text: str
) -> None:
    async with registry.transaction() as tx:
        await tx.dead_letters.insert([DeadLetter(NOW, "t", "reason", "d", payload, size)])
    listed: contract.DeadLetterPage = await ask(registry, "dead-letters.list", reason="reason")
    (row,) = listed.dead_letters
    shown: contract.DeadLetterDetail = await ask(registry, "dead-letters.show", id=row.id)
    assert (shown.payload_text, shown.truncated) == (text, len(payload) < size)
    assert shown.dead_letter == row
    with pytest.raises(Refused):
        await ask(registry, "dead-letters.show", id=2**63 - 1)


async def test_a_batch_carried_through_every_station_twice(registry: Registry) -> None:
    """Redelivery after a crash between commit and acknowledgement: stored and counted once."""
    await register(registry, "gw-1", "gw-2")
    told = [
        delivery(DEVICE_STATUS, "gw-1", status(Farewell.BIRTH)),
        heartbeat("gw-1", WHOLE, 1),
        heartbeat("gw-2", beat(1, info=DeviceInfo(os="x"), receipt=True), 1),
        heartbeat("gw-9", beat(1), 1),
        delivery(DEVICE_EVENTS, "gw-1", batch_of(event(8), event(9)), s=2),
    ]
    for _ in range(2):
        assert await dispatch(registry, *told) == 3
    found: contract.FleetSummary = await ask(registry, "fleet.status")
    assert (found.heartbeats_stored, found.dead_letters, found.devices) == (2, 2, 2)
    events: contract.DeviceEventPage = await ask(registry, "device.events", device_id="gw-1")
    assert sorted(e.kind for e in events.events) == [
        "agent.started",
        "agent.started",
        "device.status",
    ]


async def test_a_row_the_database_refuses_stands_alone(registry: Registry) -> None:
    ids = [f"gw-{n:02}" for n in range(40)]
    await register(registry, *ids)
    told = [heartbeat(i, beat(1, receipt=True)) for i in ids]
    told[17] = heartbeat(ids[17], beat(1, metrics=metrics(cpu=80), receipt=True))
    absurd = Thresholds(cpu=Band(70, 90, -40_000, -40_000))  # a score beyond a smallint
    assert await dispatch(registry, *told, health=absurd) == 39
    async with registry.transaction() as tx:
        (letter,) = await tx.dead_letters.page(reason="", topic="", limit=9, offset=0)
    assert letter["reason"] == "refused_by_database"
    assert letter["topic"] == told[17].topic
    found: contract.FleetSummary = await ask(registry, "fleet.status")
    assert (found.heartbeats_stored, found.dead_letters) == (39, 1)


async def test_the_sweep_writes_state_event_and_picture(registry: Registry) -> None:
    await register(registry, "gw-1")
    await put_online(registry, "gw-1")
    told = context(lambda: seconds(60))
    settings: Any = None
    await sweep(registry, told, settings)  # nobody listens: nothing happens
    async with registry.transaction() as tx:
        assert await tx.live_changes.claim(9) == ([], set())
        await tx.services.listening("ingest", seconds(-100), seconds(59))
    await sweep(registry, told, settings)
    shown: contract.DeviceDetail = await ask(registry, "device.show", device_id="gw-1")
    assert (shown.device.status, shown.device.since) == (DeviceHealth.WARNING, seconds(60))
    assert [e.message for e in shown.events] == ["online -> warning (late)"]
    await announce_all(registry)
    async with registry.transaction() as tx:
        ids, devices = await tx.live_changes.claim(9)
    assert (len(ids), devices) == (1, {"gw-1"})  # it was waiting already


async def test_two_processes_with_mixed_batches_never_wait_in_a_ring(
    plain_registry: Registry,
) -> None:
    """Births and heartbeats of one batch were locked in two steps: 28 deadlocks in 40 batches."""
    devices = [f"gw-{n:03d}" for n in range(60)]
    await register(plain_registry, *devices)
    source = random.Random(3)

    def batch(seq: int) -> list[Delivery]:
        return [
            delivery(DEVICE_STATUS, device_id, status(Farewell.BIRTH, seq))
            if source.random() < 0.3
            else heartbeat(device_id, beat(seq))
            for device_id in source.sample(devices, 40)
        ]

    async def process(instance: str) -> None:
        refusals = Refusals(payload_limit_bytes=100, limit_per_minute=100)
        rules = msgspec.structs.replace(context(), instance=instance)
        work = Dispatcher(INGEST.routes, plain_registry, rules, refusals)
        for seq in range(1, 21):
            await work.handle(batch(seq))  # raises Unavailable for a deadlock

    async with asyncio.TaskGroup() as group:
        group.create_task(process("ingest-1"))
        group.create_task(process("ingest-2"))
