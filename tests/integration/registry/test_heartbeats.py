"""The history of heartbeats: everything that passes the contract is stored, and stored once."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from fleet_core.contract.codec import decode, encode
from fleet_core.contract.errors import InvalidPayload
from fleet_core.contract.messages import (
    MAX_BIGINT,
    MAX_CONNECTORS,
    MAX_CUSTOM_METRICS,
    Connector,
    ConnectorStatus,
    Heartbeat,
)
from fleet_core.contract.topics import DEVICE_HEARTBEAT
from fleet_core.registry.store import Registry
from tests.fixtures.store import BOOT_A, BOOT_B, NOW, beat, metrics, seconds
from tests.integration.registry.stories import fetch, insert, put, record, register, state_of

ALL = "SELECT * FROM heartbeats ORDER BY device_id, at, seq"


def as_sent(message: Heartbeat) -> Heartbeat:
    """The message as it comes off the wire: what is stored here is what a device can send."""
    found = decode(DEVICE_HEARTBEAT, encode(message))
    assert isinstance(found, Heartbeat)
    return found


async def rows(registry: Registry) -> list[dict[str, Any]]:
    async with registry.transaction() as tx:
        return await fetch(tx, ALL)


async def test_a_heartbeat_is_stored_with_every_column(registry: Registry) -> None:
    message = beat(
        7,
        at=seconds(3),
        metrics=metrics(
            12.5,
            25,
            50,
            network_received_bytes_per_s=1.5,
            network_sent_bytes_per_s=2.5,
            uptime_s=99,
            custom={"battery": 0.25},
        ),
        connectors=[
            Connector(name="a", status=ConnectorStatus.RUNNING),
            Connector(name="b", status=ConnectorStatus.FAILED),
        ],
    )
    assert await insert(registry, [record("gw-1", message, 90)]) == 1
    (row,) = await rows(registry)
    assert row.pop("boot_id").hex == BOOT_A
    assert row == {
        "device_id": "gw-1",
        "at": seconds(3),
        "seq": 7,
        "received_at": seconds(4),
        "score": 90,
        "cpu_percent": 12.5,
        "ram_percent": 25,
        "disk_percent": 50,
        "network_received_bytes_per_s": 1.5,
        "network_sent_bytes_per_s": 2.5,
        "uptime_s": 99,
        "connectors_running": 1,
        "connectors_total": 2,
        "custom": {"battery": 0.25},
    }


async def test_a_redelivery_is_stored_once_within_a_batch_and_across_batches(
    registry: Registry,
) -> None:
    batch = [record("gw-1", beat(n, at=seconds(n))) for n in (1, 2, 2, 3)]
    assert await insert(registry, batch) == 3
    assert await insert(registry, batch) == 0
    assert await insert(registry, [*batch, record("gw-1", beat(4, at=seconds(4)))]) == 1
    assert len(await rows(registry)) == 4


async def test_the_same_number_of_another_boot_or_device_is_another_record(
    registry: Registry,
) -> None:
    batch = [
        record("gw-1", beat(1)),
        record("gw-1", beat(1, BOOT_B)),
        record("gw-2", beat(1)),
        record("gw-1", beat(1, at=seconds(1))),
    ]
    assert await insert(registry, batch) == 4


async def test_a_redelivery_in_another_zone_is_the_same_record(registry: Registry) -> None:
    elsewhere = NOW.astimezone(timezone(timedelta(hours=-11)))
    assert await insert(registry, [record("gw-1", as_sent(beat(1)))]) == 1
    assert await insert(registry, [record("gw-1", as_sent(beat(1, at=elsewhere)))]) == 0


async def test_nothing_is_nothing(registry: Registry) -> None:
    assert await insert(registry, []) == 0


async def test_a_thousand_at_once(registry: Registry) -> None:
    batch = [record(f"gw-{n % 250}", beat(n, at=seconds(n))) for n in range(1, 1001)]
    assert await insert(registry, batch) == 1000


@pytest.mark.parametrize(
    "message",
    [
        beat(MAX_BIGINT),
        beat(metrics=metrics(uptime_s=MAX_BIGINT, ram_total_bytes=MAX_BIGINT, cpu_count=0)),
        beat(metrics=metrics(network_sent_bytes_per_s=1e15, network_received_bytes_per_s=0)),
        beat(metrics=metrics(0, 100, 33.333333333333336)),
        beat(metrics=metrics(5e-324, 1e-50, 1e-44, network_sent_bytes_per_s=1e-300)),
        beat(metrics=metrics(custom={"x": 1e300, "y": -1e300, "z": 5e-324, "w": 0.1})),
        beat(metrics=metrics(custom={f"k{n}": n for n in range(MAX_CUSTOM_METRICS)})),
        beat(
            metrics=metrics(custom={'"\\': 1, "{a,NULL}": 2, "\N{SNOWMAN}\U0001f600": 3, "\t": 4})
        ),
        beat(connectors=[Connector(name="c")] * MAX_CONNECTORS),
        beat(at=datetime(1970, 1, 2, tzinfo=UTC)),
        beat(at=datetime(2200, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)),
        beat(at=NOW.astimezone(timezone(timedelta(hours=15, minutes=59)))),
        beat(at=NOW.astimezone(timezone(-timedelta(hours=15, minutes=59)))),
    ],
    ids=[str(n) for n in range(13)],
)
async def test_what_passes_the_contract_is_stored_and_read_again(
    registry: Registry, message: Heartbeat
) -> None:
    """In the history and as the newest sample. Numbers too small for 32 bits were refused, and so
    were times that PostgreSQL finds too far from UTC."""
    message = as_sent(message)
    assert await insert(registry, [record("gw-1", message)]) == 1
    (row,) = await rows(registry)
    assert (row["seq"], row["at"]) == (message.seq, message.at)
    assert row["connectors_total"] == len(message.connectors)
    assert (row["custom"] or {}).keys() == message.metrics.custom.keys()
    assert math.isclose(row["cpu_percent"], message.metrics.cpu_percent, abs_tol=1e-30)
    await register(registry, "gw-1")
    await put(registry, "gw-1", sample=message, seq=message.seq, heartbeat_at=message.at)
    state = await state_of(registry, "gw-1")
    assert (state.seq, state.heartbeat_at) == (message.seq, message.at)


@pytest.mark.parametrize(
    "at",
    [
        "2026-03-02T09:30:00+16:00",
        "2026-03-02T09:30:00-16:00",
        "2026-03-02T09:30:00-23:59",
        "9999-12-31T23:59:59-14:00",
        "0001-01-01T00:00:00+14:00",
        "1969-12-31T23:59:59Z",
        "2201-01-01T00:00:00Z",
    ],
)
def test_a_time_that_postgresql_or_python_could_not_hold_is_no_valid_payload(at: str) -> None:
    """A state with such a time could be written and never be read: the device was lost for good."""
    payload = encode(beat()).replace(b"2026-03-02T09:30:00Z", at.encode())
    assert at.encode() in payload
    with pytest.raises(InvalidPayload):
        decode(DEVICE_HEARTBEAT, payload)
