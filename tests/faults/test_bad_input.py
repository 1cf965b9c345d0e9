"""Bad payloads: refused, counted, logged once, and the service carries on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import psycopg
import pytest

from fleet_core.contract.topics import (
    DEVICE_EVENTS,
    DEVICE_HEARTBEAT,
    DEVICE_STATUS,
    PAYLOAD_LIMIT_BYTES,
    SERVICE_STATUS,
    Template,
)
from fleet_core.runtime.mqtt import Address, Publication, connect
from tests.faults.stage import (
    BOOT,
    DEVICE,
    NESTED,
    OTHERS,
    Stage,
    Values,
    events,
    heartbeat,
    padded,
    run_stage,
    with_text,
)
from tests.fixtures.brokers import start_mosquitto
from tests.fixtures.eventually import eventually
from tests.fixtures.platform import RunningPostgres


@pytest.fixture(scope="module")
def module_stage(fragile_server: RunningPostgres) -> Iterator[Stage]:
    with run_stage(fragile_server, start_mosquitto) as stage:
        yield stage


@pytest.fixture
async def stage(module_stage: Stage) -> Stage:
    await module_stage.is_ready()
    return module_stage


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
    "data with an integer of 40,000 digits": events(data={"a": "HERE"}).replace(
        b'"HERE"', b"1" * 40_000
    ),
    "kind with a line break": events(kind="a\n"),
    "kind with SQL": events(kind="a'; DROP TABLE devices; --"),
    "severity unknown": events(severity="fatal"),
}


@pytest.mark.parametrize("payload", BAD_HEARTBEATS.values(), ids=BAD_HEARTBEATS.keys())
async def test_a_bad_heartbeat_is_refused_and_the_next_is_stored(
    stage: Stage, payload: bytes
) -> None:
    reason = await stage.refused(DEVICE_HEARTBEAT, payload)
    assert reason == "invalid_payload"
    await stage.good_heartbeat_is_stored()


@pytest.mark.parametrize("payload", BAD_EVENTS.values(), ids=BAD_EVENTS.keys())
async def test_bad_events_are_refused_and_the_next_heartbeat_is_stored(
    stage: Stage, payload: bytes
) -> None:
    assert await stage.refused(DEVICE_EVENTS, payload) == "invalid_payload"
    await stage.good_heartbeat_is_stored()


GOOD_HEARTBEATS: dict[str, Values] = {
    "unknown field": {"spin": {"up": 1}},
    "percent next to nothing": {
        "metrics": {"cpu_percent": 1e-300, "ram_percent": 5e-324, "disk_percent": -0.0}
    },
    "largest numbers": {
        "metrics": {
            "cpu_percent": 1,
            "ram_percent": 1,
            "disk_percent": 1,
            "uptime_s": 2**63 - 1,
            "network_sent_bytes_per_s": 1e15,
            "custom": {"m": -1e300},
        }
    },
    "control characters": {
        "connectors": [{"name": '\x1b[2J\r\n\u202e{"a",NULL}\\'}],
        "info": {"hostname": "\x07\r\nWARNING fake", "addresses": ['"};DROP TABLE devices;--']},
    },
}


@pytest.mark.parametrize("changes", GOOD_HEARTBEATS.values(), ids=GOOD_HEARTBEATS.keys())
async def test_what_is_odd_and_allowed_is_stored(stage: Stage, changes: Values) -> None:
    await stage.good_heartbeat_is_stored(**changes)


async def test_of_duplicate_keys_the_last_one_counts(stage: Stage) -> None:
    seq = stage.next_seq()
    payload = heartbeat(seq=stage.next_seq()).replace(b'"seq"', b'"seq": %d, "seq"' % seq, 1)
    await stage.publish(DEVICE_HEARTBEAT, payload)
    await stage.good_heartbeat_is_stored()
    assert not stage.rows("SELECT 1 FROM heartbeats WHERE seq = %s", seq)


@pytest.mark.parametrize("year", [1970, 2100, 2199])
@pytest.mark.parametrize("offset", ["Z", "+15:59", "-15:59"])
async def test_an_implausible_time_is_no_history_and_does_no_harm(
    stage: Stage, year: int, offset: str
) -> None:
    """The device is heard all the same: presence goes by the platform's clock."""
    payload = heartbeat(seq=stage.next_seq(), at=f"{year}-12-31T23:59:59{offset}")
    assert await stage.refused(DEVICE_HEARTBEAT, payload) == "implausible_time"
    batch = events(seq=stage.next_seq(), at=f"{year}-01-01T00:00:00{offset}")
    assert await stage.refused(DEVICE_EVENTS, batch) == "implausible_time"
    await stage.good_heartbeat_is_stored()


async def test_a_repeated_seq_is_stored_once(stage: Stage) -> None:
    seq, at = stage.next_seq(), datetime.now(UTC).isoformat()
    for _ in range(3):
        await stage.publish(DEVICE_HEARTBEAT, heartbeat(seq=seq, at=at))
    await stage.good_heartbeat_is_stored()
    assert stage.count("SELECT count(*) FROM heartbeats WHERE seq = %s", seq) == 1


LIMITS = {
    DEVICE_HEARTBEAT: heartbeat(),
    DEVICE_EVENTS: events(),
    DEVICE_STATUS: b"{}",
    SERVICE_STATUS: b"{}",
}


@pytest.mark.parametrize("template", LIMITS, ids=lambda t: t.name)
async def test_one_byte_over_the_limit_is_refused(stage: Stage, template: Template) -> None:
    identity = "service.x" if template is SERVICE_STATUS else DEVICE
    payload = padded(LIMITS[template], template.payload_limit_bytes + 1)
    assert await stage.refused(template, payload, identity) == "payload_too_large"
    await stage.good_heartbeat_is_stored()


@pytest.mark.parametrize("size_bytes", [PAYLOAD_LIMIT_BYTES + 1024, 2 * 1024 * 1024])
async def test_what_is_longer_than_a_packet_may_be_does_not_reach_the_platform(
    stage: Stage, size_bytes: int
) -> None:
    before = len(stage.letters())
    topic = DEVICE_EVENTS.topic(DEVICE).encode()
    assert not await stage.publish_raw(topic, b"[" + b"0," * (size_bytes // 2))
    await stage.good_heartbeat_is_stored()
    assert len(stage.letters()) == before


STATUS = {"state": "online", "reason": "birth", "boot_id": BOOT, "session": 1}
UNKNOWN = {
    DEVICE_HEARTBEAT: heartbeat(),
    DEVICE_EVENTS: events(),
    DEVICE_STATUS: json.dumps({**STATUS, "at": "2026-03-02T09:30:00Z"}).encode(),
}


@pytest.mark.parametrize("template", UNKNOWN, ids=lambda t: t.name)
async def test_an_unknown_device_makes_a_dead_letter_and_no_row(
    stage: Stage, template: Template
) -> None:
    assert await stage.refused(template, UNKNOWN[template], "stranger-1") == "unknown_device"
    await stage.good_heartbeat_is_stored()
    assert stage.count("SELECT count(*) FROM devices") == 1 + len(OTHERS)
    assert stage.count("SELECT count(*) FROM device_state") == 1 + len(OTHERS)
    for table in ("heartbeats", "device_events"):
        query = f"SELECT count(*) FROM {table} WHERE device_id = 'stranger-1'"
        assert stage.count(query) == 0


async def test_one_bad_row_does_not_hold_up_499_good_ones(stage: Stage) -> None:
    """What the database refuses is found by halving the batch; the bad one comes in the middle."""
    bad = 2**40
    devices = [OTHERS[number % len(OTHERS)] for number in range(500)]
    payloads = [heartbeat(seq=1 + number) for number in range(500)]
    payloads[250] = heartbeat(seq=bad)
    before, letters = stage.count("SELECT count(*) FROM heartbeats"), len(stage.letters())
    rule = "ALTER TABLE heartbeats {} CONSTRAINT refuses_one {}"
    with psycopg.connect(stage.platform.database_url, autocommit=True) as connection:
        connection.execute(rule.format("ADD", f"CHECK (seq <> {bad})").encode())
    ingest = stage.platform["ingest"]
    async with connect(Address.parse(stage.broker.url), "sender", clean_session=True) as sender:
        ingest.pause()
        pairs = zip(devices, payloads, strict=True)
        topics = [(DEVICE_HEARTBEAT.topic(name), payload) for name, payload in pairs]
        await sender.publish_all([Publication(topic, payload) for topic, payload in topics])
        ingest.resume()
        await eventually(lambda: stage.count("SELECT count(*) FROM heartbeats") == before + 499)
    await eventually(lambda: len(stage.letters()) == letters + 1)
    assert stage.letters()[-1] == (topics[250][0], "refused_by_database")
    with psycopg.connect(stage.platform.database_url, autocommit=True) as connection:
        connection.execute(rule.format("DROP", "").encode())
    await stage.good_heartbeat_is_stored()


async def test_a_flood_is_counted_and_logged_once(stage: Stage) -> None:
    count, before = 300, len(stage.letters())
    ingest = stage.platform["ingest"]
    lines = [line for line in ingest.logged("refused") if line["reason"] == "invalid_payload"]
    garbage = [Publication(DEVICE_HEARTBEAT.topic(DEVICE), b"\r\nfake")] * count
    async with connect(Address.parse(stage.broker.url), "flood", clean_session=True) as sender:
        await sender.publish_all(garbage)
    await eventually(lambda: len(stage.letters()) == before + count)
    later = [line for line in ingest.logged("refused") if line["reason"] == "invalid_payload"]
    assert len(later) <= len(lines) + 1
