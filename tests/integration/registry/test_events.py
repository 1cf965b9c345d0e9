"""The event log of devices."""

from __future__ import annotations

from typing import Any

import pytest

from fleet_core.contract.codec import decode, encode
from fleet_core.contract.messages import MAX_BIGINT, Event, EventBatch, Severity
from fleet_core.contract.topics import DEVICE_EVENTS
from fleet_core.registry.events import Record
from fleet_core.registry.store import Registry
from fleet_core.rules.presence import PlatformEvent
from tests.fixtures.store import BOOT_A, BOOT_B, batch_of, event, seconds

DEEP: dict[str, Any] = {}
for _ in range(26):
    DEEP = {"in": DEEP}


def record(what: Event, device_id: str = "gw-1", boot: str = BOOT_A) -> Record:
    return Record(device_id, boot, seconds(100), what)


async def insert(registry: Registry, *records: Record) -> int:
    async with registry.transaction() as tx:
        return await tx.events.insert(records)


async def page(registry: Registry, **wanted: Any) -> list[dict[str, Any]]:
    async with registry.transaction() as tx:
        return await tx.events.page("gw-1", **{"kind": "", "limit": 100, "offset": 0, **wanted})


async def test_an_event_is_stored_once(registry: Registry) -> None:
    one, two = record(event(1)), record(event(2))
    assert await insert(registry, one, one) == 1
    assert await insert(registry, one, two, record(event(1), boot=BOOT_B)) == 2
    assert await insert(registry) == 0


async def test_the_log_is_newest_first_by_pages_and_by_kind(registry: Registry) -> None:
    await insert(registry, *(record(event(n, at=seconds(n % 3))) for n in range(1, 10)))
    await insert(registry, record(event(99, at=seconds(50), kind="door.opened")))
    await insert(registry, record(event(1), device_id="gw-2"))
    log = await page(registry)
    assert [row["at"] for row in log] == sorted((row["at"] for row in log), reverse=True)
    assert len(log) == 10
    pages = [await page(registry, limit=4, offset=o) for o in (0, 4, 8, 12)]
    assert [row for p in pages for row in p] == log
    (door,) = await page(registry, kind="door.opened")
    assert (door["source"], door["severity"], door["received_at"]) == (
        "device",
        "info",
        seconds(100),
    )
    async with registry.transaction() as tx:
        assert await tx.events.count("gw-1", kind="") == 10
        assert await tx.events.count("gw-1", kind="door.opened") == 1
        assert await tx.events.count("gw-1", kind="door") == 0


async def test_what_the_platform_noticed_stands_in_the_same_log(registry: Registry) -> None:
    noticed = PlatformEvent(
        device_id="gw-1",
        at=seconds(1),
        kind="device.status",
        severity=Severity.WARNING,
        message="online -> offline (will)",
        data={"from": "online", "score": None},
    )
    async with registry.transaction() as tx:
        await tx.events.insert_of_platform([noticed, noticed])
        await tx.events.insert_of_platform([])
    log = await page(registry)
    assert len(log) == 2
    assert log[0] == {
        "at": seconds(1),
        "received_at": seconds(1),
        "source": "platform",
        "kind": "device.status",
        "severity": "warning",
        "message": "online -> offline (will)",
        "data": {"from": "online", "score": None},
    }


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"n": MAX_BIGINT, "m": -MAX_BIGINT, "huge": 10**4000, "negative": -(10**300)},
        {"small": 5e-324, "x": -0.5, "e": 1e15},
        {f"key {n}": n for n in range(500)},
        DEEP,
        {"a": [1, None, True, [], {}, "x", 0.5]},
        {"": "", " ": " ", "漢字": "\U0001f600", 'q"\\{}': "NULL", "\t\n": "\x01\x7f\u2028"},
        {"backslash u": "\\u0000"},
    ],
    ids=["nothing", "integers", "floats", "500 keys", "deep", "mixed", "unusual text", "no escape"],
)
async def test_any_data_that_passes_the_contract_is_read_as_it_was_sent(
    registry: Registry, data: dict[str, Any]
) -> None:
    message = decode(DEVICE_EVENTS, encode(batch_of(event(data=data, message="m" * 4096))))
    assert isinstance(message, EventBatch)
    (sent,) = message.events
    assert await insert(registry, record(sent)) == 1
    (row,) = await page(registry)
    assert row["data"] == sent.data
    assert row["message"] == sent.message
    assert encode(row)


async def test_the_largest_float_comes_back_as_the_same_number(registry: Registry) -> None:
    """PostgreSQL writes it with all of its digits, and so Python reads an integer."""
    largest = 1.7976931348623157e308
    await insert(registry, record(event(data={"x": largest})))
    (row,) = await page(registry)
    assert float(row["data"]["x"]) == largest
