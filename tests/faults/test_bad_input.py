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

from fleet_core.contract.codec import decode_as
from fleet_core.contract.messages import Chunk
from fleet_core.contract.topics import (
    DEVICE_EVENTS,
    DEVICE_HEARTBEAT,
    DEVICE_STATUS,
    OPERATOR_REQUESTS,
    OPERATOR_RESPONSES,
    PAYLOAD_LIMIT_BYTES,
    SERVICE_STATUS,
    Template,
)
from fleet_core.runtime.mqtt import Address, Connection, Publication, connect
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

    async def good_heartbeat_is_stored_after_letters(self, count: int) -> None:
        """Wait for a dead letter beyond `count`, then for a good heartbeat."""
        await eventually(lambda: len(self.letters()) > count)
        await self.good_heartbeat_is_stored()

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
    "data with an integer of 31 digits": events(data={"a": 10**30}),
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


HOSTILE_IDS = {
    "plus": b"+",
    "hash": b"#",
    "dollar": b"$SYS",
    "dots": b"..",
    "percent": b"%00%2e",
    "quotes": b"a'b\"c`d",
    "line break": b"a\r\nWARNING fake",
    "NUL": b"a\x00b",
    "escape": b"\x1b[2Ja",
    "right to left": "a\u202eb".encode(),
    "zero width": "a\u200bb".encode(),
    "byte order mark": b"\xef\xbb\xbfab",
    "capital": b"Gw-0001",
    "cyrillic": "gw-\u043e001".encode(),
    "no UTF-8": b"a\xff\xfeb",
    "surrogate": b"a\xed\xa0\x80b",
    "overlong": b"a\xc0\xafb",
    "empty": b"",
    "one letter": b"a",
    "64 letters": b"a" * 64,
    "60,000 letters": b"a" * 60_000,
    "a service": b"service.ingest",
    "an operator": b"operator.alice",
    "SQL": b"x'; DROP TABLE devices; --",
    "space": b" gw-0001",
}
ODD_TOPICS = {
    "nothing": b"",
    "slash": b"/",
    "leading slash": b"/fleet/v1/devices/gw-0001/up/heartbeat",
    "trailing slash": b"fleet/v1/devices/gw-0001/up/heartbeat/",
    "200 levels": b"/".join([b"fleet"] * 200),
    "20,000 levels": b"/" * 20_000,
    "wrong channel": b"fleet/v1/devices/gw-0001/up/heartbeats",
    "wrong version": b"fleet/v2/devices/gw-0001/up/heartbeat",
    "$SYS": b"$SYS/broker/uptime",
    "$share": b"$share/fleet-ingest/fleet/v1/devices/gw-0001/up/heartbeat",
    "a filter": b"fleet/v1/devices/+/up/heartbeat",
    "everything": b"#",
}
TOPICS = {
    **{f"id {name}": b"fleet/v1/devices/%s/up/heartbeat" % i for name, i in HOSTILE_IDS.items()},
    **ODD_TOPICS,
}


@pytest.mark.parametrize("topic", TOPICS.values(), ids=TOPICS.keys())
async def test_a_hostile_topic_does_no_harm(stage: Stage, topic: bytes) -> None:
    """The broker hangs up, or nobody has subscribed, or it is refused: but nothing is stored."""
    heartbeats = stage.count("SELECT count(*) FROM heartbeats")
    await stage.publish_raw(topic, heartbeat())
    await stage.publish(DEVICE_HEARTBEAT, b"marker")
    await eventually(
        lambda: stage.letters()[-1:] == [(DEVICE_HEARTBEAT.topic(DEVICE), "invalid_payload")]
    )
    assert stage.count("SELECT count(*) FROM heartbeats") == heartbeats
    await stage.good_heartbeat_is_stored()
    assert all(len(topic) <= 1024 for topic, _ in stage.letters())


async def test_garbage_as_a_will_is_refused(stage: Stage) -> None:
    before = len(stage.letters())
    will = (DEVICE_STATUS.topic(DEVICE).encode(), b"{}")
    async with hostile_client(stage.broker.port, b"dying", will):
        pass
    await eventually(lambda: len(stage.letters()) == before + 1)
    await stage.good_heartbeat_is_stored()
    await stage.publish_raw(will[0], b"", retain=True)


async def test_retained_garbage_on_a_status_topic_hurts_nobody(stage: Stage) -> None:
    topic, ingest = DEVICE_STATUS.topic(DEVICE), stage.platform["ingest"]
    for garbage in (b"\x00\xff", b"{}", b"[" * 2000):
        await stage.publish_raw(topic.encode(), garbage, retain=True)
    before = len(stage.letters())
    connections = ingest.running_connections
    ingest.kill()
    ingest.start()
    await ingest.connects(connections + 1)
    await stage.good_heartbeat_is_stored_after_letters(before)
    await stage.publish_raw(topic.encode(), b"", retain=True)


OPERATOR = "operator.mallory"
HOSTILE_REQUESTS: dict[str, tuple[Values, str]] = {
    "SQL in a text": (
        {"operation": "device.list", "params": {"text": "'; DROP TABLE devices; --%_\\"}},
        "",
    ),
    "SQL in an id": (
        {"operation": "device.show", "params": {"device_id": "gw-0001' OR '1'='1"}},
        "not_found",
    ),
    "wildcard in an id": (
        {"operation": "device.events", "params": {"device_id": "+/#/../$SYS"}},
        "not_found",
    ),
    "hostile ids to register": (
        {
            "operation": "device.register",
            "params": {"devices": [{"device_id": "a/+/\u202e", "name": "x", "site": "y"}]},
        },
        "usage",
    ),
    "SQL to sort by": (
        {"operation": "device.list", "params": {"sort": "id; DROP TABLE devices"}},
        "usage",
    ),
    "an offset of 2^63 - 1": (
        {"operation": "device.list", "params": {"offset": 2**63 - 1, "limit": 1000}},
        "",
    ),
    "an offset of 2^63": ({"operation": "device.list", "params": {"offset": 2**63}}, "usage"),
    "a dead letter of 2^63 - 1": (
        {"operation": "dead-letters.show", "params": {"id": 2**63 - 1}},
        "not_found",
    ),
    "a dead letter of 10^30": (
        {"operation": "dead-letters.show", "params": {"id": 10**30}},
        "usage",
    ),
    "an unknown parameter": ({"operation": "fleet.status", "params": {"x": 1}}, "usage"),
    "an unknown operation": ({"operation": "device.explode"}, "usage"),
    "expired": ({"operation": "fleet.status", "expires_at": "1999-01-01T00:00:00Z"}, "timeout"),
    "expires in 2199": ({"operation": "fleet.status", "expires_at": "2199-01-01T00:00:00Z"}, ""),
}


def request(request_id: str, **changes: Any) -> bytes:
    values = {"operation": "fleet.status", "expires_at": "2199-01-01T00:00:00Z", "params": {}}
    return json.dumps({"request_id": request_id, **values, **changes}).encode()


async def ask(stage: Stage, request_id: str, **changes: Any) -> Values:
    """The answer to a request."""
    topic = OPERATOR_REQUESTS.topic(OPERATOR, request_id)
    address = Address.parse(stage.broker.url)
    async with connect(address, OPERATOR, clean_session=True) as connection:
        await connection.subscribe([(OPERATOR_RESPONSES.filter(OPERATOR), 1)])
        await connection.publish(Publication(topic, request(request_id, **changes)))
        return await _answer(connection)


async def _answer(connection: Connection) -> Values:
    chunks: list[Chunk] = []
    while not chunks or len(chunks) < chunks[0].total_chunks:
        deliveries = await connection.receive(100)
        chunks += [decode_as(Chunk, delivery.payload) for delivery in deliveries]
    answer: Values = json.loads("".join(chunk.payload for chunk in chunks))
    return answer


@pytest.mark.parametrize("number", range(len(HOSTILE_REQUESTS)), ids=HOSTILE_REQUESTS)
async def test_a_hostile_request_gets_an_answer(stage: Stage, number: int) -> None:
    changes, code = [*HOSTILE_REQUESTS.values()][number]
    answer = await ask(stage, f"hostile-{number}", **changes)
    assert answer.get("error", {}).get("code", "") == code, answer
    status = await ask(stage, f"good-{number}")
    assert status["result"]["devices"] == 1 + len(OTHERS)


BAD_REQUESTS = {
    "no JSON": b"x",
    "deep nesting": request("r1", params={"a": "HERE"}).replace(b'"HERE"', NESTED.encode()),
    "NUL": request("r1", params={"text": "\0"}),
    "no operation": request("r1", operation="x"),
    "operation with SQL": request("r1", operation="device.list'; --"),
    "another id than the topic's": request("r2"),
    "request id with a slash": request("a/b"),
    "request id with a wildcard": request("+"),
    "too long": padded(request("r1"), PAYLOAD_LIMIT_BYTES + 1),
}


@pytest.mark.parametrize("payload", BAD_REQUESTS.values(), ids=BAD_REQUESTS.keys())
async def test_a_request_that_can_not_be_answered_is_a_dead_letter(
    stage: Stage, payload: bytes
) -> None:
    before = len(stage.letters())
    await stage.publish_raw(OPERATOR_REQUESTS.topic(OPERATOR, "r1").encode(), payload)
    await eventually(lambda: len(stage.letters()) == before + 1)
    assert (await ask(stage, "good"))["result"]["devices"] == 1 + len(OTHERS)


@pytest.mark.parametrize("identity", HOSTILE_IDS.values(), ids=HOSTILE_IDS.keys())
async def test_a_request_from_a_hostile_id_does_no_harm(stage: Stage, identity: bytes) -> None:
    for topic in (
        b"fleet/v1/operators/%s/up/requests/r1" % identity,
        b"fleet/v1/operators/operator.mallory/up/requests/" + identity,
    ):
        await stage.publish_raw(topic, request("r1"))
    assert (await ask(stage, "good"))["result"]["devices"] == 1 + len(OTHERS)


async def test_the_processes_are_still_the_same_and_have_logged_each_reason_once(
    stage: Stage,
) -> None:
    """Comes last: it looks back at everything above."""
    for handler in stage.platform.handlers.values():
        assert handler.running
        assert not handler.logged("a handler failed")
        assert not handler.logged("dead letters could not be stored")
        lines = handler.log_text().splitlines()
        assert all(line.startswith("{") for line in lines), lines[-5:]
        times: dict[tuple[str, str], list[datetime]] = {}
        for line in handler.logged("refused"):
            moment = datetime.fromisoformat(line["timestamp"])
            times.setdefault((line["process"], line["reason"]), []).append(moment)
        for moments in times.values():
            pairs = itertools.pairwise(moments)
            assert all((later - sooner).total_seconds() > 59 for sooner, later in pairs), times
