"""From deliveries to a commit, and everything that can go wrong on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
import structlog

from fleet_core.contract.codec import decode_as
from fleet_core.contract.errors import Rejected, Unavailable
from fleet_core.contract.messages import Farewell, Receipt
from fleet_core.contract.publication import Delivery, Publication
from fleet_core.contract.topics import (
    DEVICE_EVENTS,
    DEVICE_HEARTBEAT,
    DEVICE_RECEIPTS,
    DEVICE_STATUS,
    OPERATOR_REQUESTS,
    SERVICE_STATUS,
    Template,
)
from fleet_core.registry.counters import DEAD_LETTERS, HEARTBEATS_STORED
from fleet_core.registry.dead_letters import DeadLetter
from fleet_core.registry.heartbeats import Record
from fleet_core.registry.store import Transaction
from fleet_core.runtime.dispatch import Dispatcher
from fleet_core.runtime.refusals import Refusals
from fleet_core.runtime.routes import Context, Inbound, Outcome, Route
from handlers.roles import INGEST
from tests.fixtures.store import (
    NOW,
    MemoryRegistry,
    batch_of,
    beat,
    context,
    delivery,
    event,
    service_status,
    status,
)


class Broken(Exception):
    """What a bug raises."""


@pytest.fixture(autouse=True)
def said() -> Any:
    with structlog.testing.capture_logs() as logs:
        yield logs


def dispatcher(
    registry: MemoryRegistry,
    routes: Sequence[Route] = INGEST.routes,
    *,
    refusals: Refusals | None = None,
) -> Dispatcher:
    refusals = refusals or Refusals(payload_limit_bytes=100, limit_per_minute=1000)
    return Dispatcher(routes, registry.as_registry(), context(), refusals)


def heartbeat(device_id: str, seq: int = 1) -> Delivery:
    return delivery(DEVICE_HEARTBEAT, device_id, beat(seq, receipt=True))


def raw(topic: str, payload: bytes = b"{}") -> Delivery:
    return Delivery(topic, payload, retain=False, received_at=NOW)


def reasons(registry: MemoryRegistry) -> list[str]:
    return [letter.reason for letter in registry.tables.dead_letters]


def single(template: Template, act: Callable[[Inbound[Any], Any], Outcome]) -> Route:
    async def handle(inbound: Inbound[Any], tx: Transaction, _context: Context) -> Outcome:
        await tx.services.save(inbound.identity, inbound.message, inbound.received_at)
        return act(inbound, tx)

    return Route(template, handle=handle)


async def test_a_batch_is_one_transaction_and_its_receipts_come_back() -> None:
    registry = MemoryRegistry("gw-1", "gw-2")
    work = dispatcher(registry)
    published = await work.handle(
        [
            delivery(DEVICE_STATUS, "gw-1", status(Farewell.BIRTH)),
            heartbeat("gw-1"),
            delivery(DEVICE_EVENTS, "gw-1", batch_of(event(2))),
            heartbeat("gw-2", 7),
        ]
    )
    receipts = [(p.topic, decode_as(Receipt, p.payload).ranges) for p in published]
    assert receipts == [
        (DEVICE_RECEIPTS.topic("gw-1"), [(1, 1)]),
        (DEVICE_RECEIPTS.topic("gw-2"), [(7, 7)]),
        (DEVICE_RECEIPTS.topic("gw-1"), [(2, 2)]),
    ]
    assert registry.commits == 1
    assert len(registry.tables.heartbeats) == 2
    assert len(registry.tables.events) == 1
    assert work.committed == 4
    assert registry.tables.dead_letters == []


async def test_nothing_is_no_transaction() -> None:
    registry = MemoryRegistry()
    assert await dispatcher(registry).handle([]) == []
    assert registry.transactions == 0


async def test_one_row_in_500_that_the_database_refuses_stands_alone() -> None:
    ids = [f"gw-{n:03}" for n in range(500)]
    registry = MemoryRegistry(*ids)
    registry.refuse = lambda record: isinstance(record, Record) and record.device_id == "gw-333"
    published = await dispatcher(registry).handle([heartbeat(i) for i in ids])
    stored = {device_id for device_id, *_ in registry.tables.heartbeats}
    assert stored == set(ids) - {"gw-333"}
    assert reasons(registry) == ["refused_by_database"]
    assert registry.tables.dead_letters[0].topic == DEVICE_HEARTBEAT.topic("gw-333")
    assert [p.topic for p in published] == [
        DEVICE_RECEIPTS.topic(device_id) for device_id in ids if device_id != "gw-333"
    ]
    assert registry.tables.counters[HEARTBEATS_STORED, "test"] == 499
    assert registry.tables.counters[DEAD_LETTERS, "test"] == 1
    assert registry.transactions <= 2 * 9 + 2


async def test_refused_rows_at_both_ends_of_a_batch() -> None:
    ids = [f"gw-{n}" for n in range(8)]
    registry = MemoryRegistry(*ids)
    registry.refuse = lambda r: isinstance(r, Record) and r.device_id in ("gw-0", "gw-7")
    await dispatcher(registry).handle([raw("nonsense"), *(heartbeat(i) for i in ids)])
    assert len(registry.tables.heartbeats) == 6
    assert sorted(reasons(registry)) == [
        "invalid_topic",
        "refused_by_database",
        "refused_by_database",
    ]


async def test_a_bug_is_a_dead_letter_and_the_process_lives(said: list[dict[str, Any]]) -> None:
    def act(inbound: Inbound[Any], _tx: Any) -> Outcome:
        if inbound.identity == "service.b":
            raise Broken("of\ncourse")
        return Outcome(publish=[Publication(inbound.identity, b"")])

    registry = MemoryRegistry()
    work = dispatcher(registry, [single(SERVICE_STATUS, act)])
    messages = [
        delivery(SERVICE_STATUS, f"service.{name}", service_status(instance=name)) for name in "abc"
    ]
    published = await work.handle(messages)
    assert [p.topic for p in published] == ["service.a", "service.c"]
    assert set(registry.tables.services) == {"service.a", "service.c"}
    (letter,) = registry.tables.dead_letters
    assert (letter.reason, letter.detail) == ("handler_fault", "Broken: of\ncourse")
    (logged,) = [entry for entry in said if entry["event"] == "a handler failed"]
    assert logged["exc_info"]
    assert [p.topic for p in await work.handle(messages[:1])] == ["service.a"]


async def test_a_sender_who_waits_is_told_that_carrying_out_failed() -> None:
    class Broken(Exception):
        pass

    def act(inbound: Inbound[Any], _tx: Any) -> Outcome:
        if inbound.identity == "service.b":
            raise Broken
        return Outcome(publish=[Publication(inbound.identity, b"answer")])

    route = msgspec.structs.replace(
        single(SERVICE_STATUS, act),
        apologise=lambda inbound: [Publication(inbound.identity, b"sorry")],
    )
    registry = MemoryRegistry()
    work = dispatcher(registry, [route])
    published = await work.handle(
        [delivery(SERVICE_STATUS, f"service.{n}", service_status()) for n in "abc"]
    )
    assert [(p.topic, p.payload) for p in published] == [
        ("service.a", b"answer"),
        ("service.b", b"sorry"),
        ("service.c", b"answer"),
    ]
    assert reasons(registry) == ["handler_fault"]


async def test_a_rejected_message_is_undone_and_the_others_are_kept() -> None:
    def act(inbound: Inbound[Any], _tx: Any) -> Outcome:
        if inbound.identity == "service.b":
            raise Rejected("not this one")
        return Outcome(owe=[Publication(inbound.identity, b"")])

    registry = MemoryRegistry()
    work = dispatcher(registry, [single(SERVICE_STATUS, act)])
    await work.handle([delivery(SERVICE_STATUS, f"service.{n}", service_status()) for n in "abc"])
    assert registry.transactions == 1
    assert set(registry.tables.services) == {"service.a", "service.c"}
    assert [p.topic for p in registry.tables.outbox] == ["service.a", "service.c"]
    assert reasons(registry) == ["rejected"]


@pytest.mark.parametrize("moment", ["unavailable", "unavailable_at_commit"])
async def test_without_the_registry_nothing_is_stored_counted_or_published(moment: str) -> None:
    registry = MemoryRegistry("gw-1")
    refusals = Refusals(payload_limit_bytes=100, limit_per_minute=1000)
    work = dispatcher(registry, refusals=refusals)
    batch = [heartbeat("gw-1"), raw("nonsense")]
    setattr(registry, moment, True)
    for _ in range(3):
        with pytest.raises(Unavailable):
            await work.handle(batch)
    assert registry.tables.heartbeats == {}
    assert registry.tables.dead_letters == []
    assert (work.committed, refusals.counts) == (0, {})
    setattr(registry, moment, False)
    assert len(await work.handle(batch)) == 1
    assert (work.committed, refusals.counts) == (1, {"invalid_topic": 1})
    assert reasons(registry) == ["invalid_topic"]


async def test_a_batch_twice_is_stored_once_and_receipted_twice() -> None:
    registry = MemoryRegistry("gw-1")
    work = dispatcher(registry)
    batch = [heartbeat("gw-1", 1), heartbeat("gw-1", 2)]
    assert await work.handle(batch) == await work.handle(batch)
    assert len(registry.tables.heartbeats) == 2
    assert registry.tables.counters[HEARTBEATS_STORED, "test"] == 2


@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [
        ("", b"{}", "invalid_topic"),
        ("$SYS/broker/uptime", b"{}", "invalid_topic"),
        ("fleet/v1/devices/gw-1/up/nonsense", b"{}", "invalid_topic"),
        ("fleet/v1/devices/\x00\ud800/up/heartbeat", b"{}", "invalid_topic"),
        (DEVICE_HEARTBEAT.topic("gw-1"), b"", "invalid_payload"),
        (DEVICE_HEARTBEAT.topic("gw-1"), b"[" * 30_000, "invalid_payload"),
        (DEVICE_HEARTBEAT.topic("gw-1"), b"x" * 40_000, "payload_too_large"),
        (DEVICE_HEARTBEAT.topic("unknown"), msgspec.json.encode(beat()), "unknown_device"),
        (DEVICE_EVENTS.topic("unknown"), msgspec.json.encode(batch_of(event())), "unknown_device"),
        (
            DEVICE_STATUS.topic("unknown"),
            msgspec.json.encode(status(Farewell.WILL)),
            "unknown_device",
        ),
    ],
)
async def test_what_is_refused_becomes_one_dead_letter(
    topic: str, payload: bytes, reason: str
) -> None:
    registry = MemoryRegistry("gw-1")
    assert await dispatcher(registry).handle([raw(topic, payload)]) == []
    assert registry.tables.dead_letters == [
        DeadLetter(
            received_at=NOW,
            topic=topic,
            reason=reason,
            detail=registry.tables.dead_letters[0].detail,
            payload=payload[:100],
            size_bytes=len(payload),
        )
    ]
    assert registry.tables.dead_letters[0].detail
    assert set(registry.tables.devices) == {"gw-1"}


async def test_a_topic_without_a_route_here_is_left_alone() -> None:
    registry = MemoryRegistry()
    work = dispatcher(registry)
    topic = OPERATOR_REQUESTS.topic("operator.alice", "r-1")
    assert await work.handle([raw(topic, b"not even JSON")]) == []
    assert (work.unrouted, registry.transactions) == (1, 0)


async def test_beyond_the_limit_a_minute_dead_letters_are_counted_not_stored() -> None:
    registry = MemoryRegistry("gw-1")
    refusals = Refusals(payload_limit_bytes=100, limit_per_minute=3)
    work = dispatcher(registry, refusals=refusals)
    await work.handle([*(raw("nonsense") for _ in range(5)), heartbeat("gw-1")])
    assert len(registry.tables.dead_letters) == 3
    assert (refusals.counts, refusals.not_stored) == ({"invalid_topic": 5}, 2)
    assert registry.tables.counters[DEAD_LETTERS, "test"] == 5
    assert len(registry.tables.heartbeats) == 1


async def test_dead_letters_that_can_not_be_stored_hold_nothing_up(
    said: list[dict[str, Any]],
) -> None:
    registry = MemoryRegistry("gw-1")
    registry.refuse = lambda record: isinstance(record, DeadLetter)
    assert await dispatcher(registry).handle([raw("nonsense")]) == []
    assert [entry["lost"] for entry in said if "lost" in entry] == [1]


async def test_what_one_process_learns_of_a_device_is_folded_in_order() -> None:
    registry = MemoryRegistry("gw-1")
    await dispatcher(registry).handle(
        [
            heartbeat("gw-1", 1),
            delivery(DEVICE_STATUS, "gw-1", status(Farewell.GOODBYE), s=1),
            delivery(DEVICE_STATUS, "gw-1", status(Farewell.BIRTH, 2), s=2),
            delivery(DEVICE_HEARTBEAT, "gw-1", beat(2), s=3),
        ]
    )
    assert [e.message for e in registry.tables.platform_events] == [
        "unseen -> online (heartbeat)",
        "online -> offline (goodbye)",
        "offline -> online (heartbeat)",
    ]
