"""Bad input: refused, counted, logged once, and the service carries on.

One platform per broker serves the whole module: whatever a hostile client says, the next good
heartbeat is stored, by the same process.
"""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from fleet_core.contract.topics import (
    DEVICE_EVENTS,
    DEVICE_HEARTBEAT,
    Template,
)
from tests.faults.hostile import hostile_client
from tests.fixtures.brokers import RunningBroker, start_embedded, start_mosquitto
from tests.fixtures.eventually import eventually
from tests.fixtures.platform import Platform, RunningPostgres, register, run_platform

DEVICE = "gw-0001"
OTHERS = [f"gw-{number:04}" for number in range(2, 52)]
BOOT = "0123456789abcdef0123456789abcdef"
Values = dict[str, Any]


class Stage:
    """A running platform, what it has stored, and what it has refused."""

    def __init__(self, broker: RunningBroker, platform: Platform) -> None:
        self.broker, self.platform = broker, platform
        self._numbers = itertools.count(1)

    def rows(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.platform.database_url) as connection:
            return connection.execute(query.encode(), parameters).fetchall()

    def count(self, query: str, *parameters: Any) -> int:
        return int(self.rows(query, *parameters)[0][0])

    def letters(self) -> list[tuple[str, str]]:
        """Topic and reason of every dead letter, oldest first."""
        return [*self.rows("SELECT topic, reason FROM dead_letters ORDER BY id")]  # type: ignore[list-item]

    def next_seq(self) -> int:
        return next(self._numbers)

    async def publish(self, template: Template, payload: bytes, identity: str = DEVICE) -> None:
        await self.publish_raw(template.topic(identity).encode(), payload)

    async def publish_raw(self, topic: bytes, payload: bytes, *, retain: bool = False) -> bool:
        async with hostile_client(self.broker.port) as client:
            return await client.publish(topic, payload, retain=retain)

    async def refused(self, template: Template, payload: bytes, identity: str = DEVICE) -> str:
        """Publish something bad; the reason it was refused for."""
        before = len(self.letters())
        await self.publish(template, payload, identity)
        letters = await eventually(lambda: self.letters()[before:])
        assert [topic for topic, _ in letters] == [template.topic(identity)]
        return letters[0][1]

    async def good_heartbeat_is_stored(self, **changes: Any) -> None:
        """A good heartbeat is stored, is the device's state, and nothing else is refused."""
        seq, before = self.next_seq(), len(self.letters())
        await self.publish(DEVICE_HEARTBEAT, heartbeat(seq=seq, **changes))
        await eventually(
            lambda: self.rows(
                "SELECT 1 FROM heartbeats WHERE device_id = %s AND seq = %s", DEVICE, seq
            )
        )
        state = self.rows("SELECT status, seq FROM device_state WHERE device_id = %s", DEVICE)
        assert state == [("online", seq)]
        assert self.letters()[before:] == []


def heartbeat(**changes: Any) -> bytes:
    """A good heartbeat, with fields replaced."""
    return json.dumps(
        {
            "boot_id": BOOT,
            "seq": 1,
            "at": datetime.now(UTC).isoformat(),
            "interval_s": 30,
            "metrics": {"cpu_percent": 1, "ram_percent": 2, "disk_percent": 3},
            **changes,
        }
    ).encode()


def with_text(field: str, json_text: str) -> bytes:
    """A heartbeat of which one field is this JSON text."""
    return heartbeat(**{field: "HERE"}).replace(b'"HERE"', json_text.encode())


def events(**changes: Any) -> bytes:
    """A batch of one good event, with fields replaced."""
    event = {"seq": 1, "at": datetime.now(UTC).isoformat(), "kind": "a.b", **changes}
    return json.dumps({"boot_id": BOOT, "events": [event]}).encode()


def padded(payload: bytes, size_bytes: int) -> bytes:
    return payload + b" " * (size_bytes - len(payload))


@contextmanager
def run_stage(server: RunningPostgres, start: Any) -> Iterator[Stage]:
    with (
        tempfile.TemporaryDirectory() as name,
        server.database() as url,
        start(Path(name) / "broker") as broker,
        run_platform(Path(name), broker.url, url) as platform,
    ):
        platform.handler("ingest")
        platform.handler("operator", "presence")
        yield Stage(broker, platform)


@pytest.fixture(
    scope="module", params=[start_mosquitto, start_embedded], ids=["mosquitto", "embedded"]
)
def stages(request: pytest.FixtureRequest, fragile_server: RunningPostgres) -> Iterator[Stage]:
    with run_stage(fragile_server, request.param) as stage:
        yield stage


@pytest.fixture
async def stage(stages: Stage) -> Stage:
    """The platform, connected; the same processes for every test."""
    handlers = stages.platform.handlers
    await handlers["ingest"].connects()
    await handlers["operator"].connects(2)
    if not stages.count("SELECT count(*) FROM devices"):
        await register(stages.platform.database_url, [DEVICE, *OTHERS])
    return stages


NESTED = '{"a":' * 9_000 + "1" + "}" * 9_000
METRICS = '{"cpu_percent":%s,"ram_percent":1,"disk_percent":1}'
BAD_HEARTBEATS = {
    "empty": b"",
    "spaces": b"   ",
    "no JSON": b"\xff\xfe\x00",
    "half": heartbeat()[:-5],
    "two documents": heartbeat() + heartbeat(),
    "a list": b"[]",
    "null": b"null",
    "a string": b'"x"',
    "deep nesting": b"[" * 30_000,
    "deep nesting where a number is due": with_text("seq", "[" * 15_000 + "]" * 15_000),
    "deep nesting in an unknown field": with_text("x", "[" * 15_000 + "]" * 15_000),
    "NaN": with_text("metrics", METRICS % "NaN"),
    "Infinity": with_text("metrics", METRICS % "Infinity"),
    "1e999": with_text("metrics", METRICS % "1e999"),
    "percent below 0": with_text("metrics", METRICS % "-0.1"),
    "percent above 100": with_text("metrics", METRICS % "100.1"),
    "percent too small for the column": with_text("metrics", METRICS % "1e-300"),
    "seq 2^63": heartbeat(seq=2**63),
    "seq 2^64": heartbeat(seq=2**64),
    "seq 10^400": with_text("seq", "1" + "0" * 400),
    "seq 0": heartbeat(seq=0),
    "seq negative": heartbeat(seq=-1),
    "seq a fraction": heartbeat(seq=1.5),
    "seq a string": heartbeat(seq="1"),
    "seq null": heartbeat(seq=None),
    "boot id short": heartbeat(boot_id="0" * 31),
    "boot id with a line break": heartbeat(boot_id="0" * 32 + "\n"),
    "boot id upper case": heartbeat(boot_id="A" * 32),
    "interval 0": heartbeat(interval_s=0),
    "interval 10^9": heartbeat(interval_s=10**9),
    "connector with NUL": heartbeat(connectors=[{"name": "a\0b"}]),
    "connector of 129 characters": heartbeat(connectors=[{"name": "a" * 129}]),
    "connector of an unknown status": heartbeat(connectors=[{"name": "a", "status": "fine"}]),
    "257 connectors": heartbeat(connectors=[{"name": "a"}] * 257),
    "custom metric with NUL": heartbeat(
        metrics={"cpu_percent": 1, "ram_percent": 1, "disk_percent": 1, "custom": {"\0": 1}}
    ),
    "65 custom metrics": heartbeat(
        metrics={
            "cpu_percent": 1,
            "ram_percent": 1,
            "disk_percent": 1,
            "custom": {f"m{n}": 1 for n in range(65)},
        }
    ),
    "info with NUL": heartbeat(info={"hostname": "\0"}),
    "lone surrogate": heartbeat(info={"hostname": "\ud800"}),
    "encoded surrogate": heartbeat(info={"hostname": "HERE"}).replace(b"HERE", b"\xed\xa0\x80"),
    "16,000 elements": heartbeat(connectors=[0] * 10_000),
    "time a number": heartbeat(at=1_700_000_000),
    "time in milliseconds": heartbeat(at=1_700_000_000_000),
    "time without a zone": heartbeat(at="2026-03-02T09:30:00"),
    "time of year 10000": heartbeat(at="10000-01-01T00:00:00Z"),
    "time before year 1 in UTC": heartbeat(at="0001-01-01T00:00:00+14:00"),
    "time after year 9999 in UTC": heartbeat(at="9999-12-31T23:59:59-14:00"),
    "time with a leap second": heartbeat(at="2026-06-30T23:59:60Z"),
}
BAD_EVENTS = {
    "no events": json.dumps({"boot_id": BOOT, "events": []}).encode(),
    "501 events": json.dumps(
        {"boot_id": BOOT, "events": [{"seq": 1, "at": "2026-03-02T09:30:00Z", "kind": "a"}] * 501}
    ).encode(),
    "49,000 elements": b'{"boot_id":"' + BOOT.encode() + b'","events":[' + b"0," * 49_000 + b"0]}",
    "message with NUL": events(message="\0"),
    "message of 4097": events(message="a" * 4097),
    "data with NUL deep inside": events(data={"a": [{"b": "\0"}]}),
    "data with NUL in a key": events(data={"\0": 1}),
    "data nested 33 levels": events(data={"a": json.loads("[" * 33 + "]" * 33)}),
    "data nested 9,000 levels": events(data={"a": "HERE"}).replace(b'"HERE"', NESTED.encode()),
    "data no object": events(data=[]),
    "kind with a line break": events(kind="a\n"),
    "kind with SQL": events(kind="a'; DROP TABLE devices; --"),
    "severity unknown": events(severity="fatal"),
}


@pytest.mark.parametrize("payload", BAD_HEARTBEATS.values(), ids=BAD_HEARTBEATS.keys())
async def test_a_bad_heartbeat_is_refused_and_the_next_is_stored(
    stage: Stage, payload: bytes
) -> None:
    reason = await stage.refused(DEVICE_HEARTBEAT, payload)
    assert reason in ("invalid_payload", "refused_by_database")
    await stage.good_heartbeat_is_stored()


@pytest.mark.parametrize("payload", BAD_EVENTS.values(), ids=BAD_EVENTS.keys())
async def test_bad_events_are_refused_and_the_next_heartbeat_is_stored(
    stage: Stage, payload: bytes
) -> None:
    assert await stage.refused(DEVICE_EVENTS, payload) == "invalid_payload"
    await stage.good_heartbeat_is_stored()
