"""A platform that hostile clients talk to, one for a whole module: whatever they say, the next good
heartbeat is stored, by the same process.
"""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from fleet_core.contract.topics import DEVICE_HEARTBEAT, Template
from tests.faults.hostile import hostile_client
from tests.fixtures.brokers import RunningBroker
from tests.fixtures.eventually import eventually
from tests.fixtures.platform import Platform, RunningPostgres, register, run_platform

DEVICE = "gw-0001"
OTHERS = [f"gw-{number:04}" for number in range(2, 52)]
BOOT = "0123456789abcdef0123456789abcdef"
NESTED = '{"a":' * 9_000 + "1" + "}" * 9_000
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
Values = dict[str, Any]
StartBroker = Callable[[Path], AbstractContextManager[RunningBroker]]


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
        return [*self.rows("SELECT topic, reason FROM dead_letters ORDER BY id")]

    def next_seq(self) -> int:
        return next(self._numbers)

    async def is_ready(self) -> None:
        """Wait until the processes are connected and the devices known."""
        await self.platform["ingest"].connects()
        await self.platform["operator"].connects(2)
        if not self.count("SELECT count(*) FROM devices"):
            await register(self.platform.database_url, [DEVICE, *OTHERS])

    async def has_heard_everything(self) -> None:
        """Wait until a message sent now was refused: what came before it has been dealt with."""
        marker = b"marker %d" % self.next_seq()
        await self.publish(DEVICE_HEARTBEAT, marker)
        query = "SELECT 1 FROM dead_letters WHERE payload = %s"
        await eventually(lambda: self.rows(query, marker))

    def assert_has_no_bug(self) -> None:
        """Nothing was refused for a fault of ours, and no log was written into."""
        for handler in self.platform.handlers.values():
            assert handler.running
            assert not handler.logged("a handler failed")
            assert not handler.logged("dead letters could not be stored")
            lines = handler.log_text().splitlines()
            assert all(line.startswith("{") for line in lines), lines[-5:]

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
def run_stage(server: RunningPostgres, start: StartBroker) -> Iterator[Stage]:
    with (
        tempfile.TemporaryDirectory() as name,
        server.database() as url,
        start(Path(name) / "broker") as broker,
        run_platform(Path(name), broker.url, url) as platform,
    ):
        platform.handler("ingest")
        platform.handler("operator", "presence")
        stage = Stage(broker, platform)
        yield stage
        stage.assert_has_no_bug()
