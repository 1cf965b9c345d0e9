"""Fault 4: the line between broker and handler swallows, tears, crawls and flaps."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from fleet_core.contract.topics import DEVICE_HEARTBEAT
from fleet_core.runtime.mqtt import Address, Publication, connect
from tests.faults.arena import arena
from tests.faults.stage import BOOT, heartbeat
from tests.fixtures.brokers import RunningBroker
from tests.fixtures.eventually import eventually
from tests.fixtures.proxy import after, flap, start_proxy

KEEPALIVE_S = 5
TEARS = 6
FLAPS = 12
SLOW_BYTES_PER_S = 2048
NOTICED_S = 11
"""A heartbeat of the process (1 s), its PUBACK that never comes (3 s), a listener's word (6 s)."""
NOTICED_IN_S = 8
"""A reset under uvloop was once noticed only when a PUBACK was missed, after ten seconds."""
MATTERS: dict[str, Any] = {
    "presence_late_after_intervals": NOTICED_S,
    "presence_offline_after_intervals": NOTICED_S,
}


async def test_a_black_hole_for_twice_the_keepalive(
    mosquitto: RunningBroker, database_url: str, tmp_path: Path, seed: int
) -> None:
    """Whoever is in the hole notices by itself, and devices are not blamed for its silence."""
    async with (
        start_proxy(mosquitto.port) as proxy,
        arena(tmp_path, mosquitto, database_url, seed, ingest_url=proxy.url, **MATTERS) as scene,
    ):
        proxy.black_hole()
        await after(2 * KEEPALIVE_S + 1)
        assert scene.ingest.logged("not connected")
        proxy.heal()
        await scene.settle()
        assert {change[1:] for change in scene.events()} <= {
            ("unseen", "online"),
            ("online", "offline"),
        }


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_resets_in_the_middle_of_packets(
    direction: str, mosquitto: RunningBroker, database_url: str, tmp_path: Path, seed: int
) -> None:
    source = random.Random(seed)
    async with (
        start_proxy(mosquitto.port) as proxy,
        arena(tmp_path, mosquitto, database_url, seed, ingest_url=proxy.url) as scene,
    ):
        line = getattr(proxy, direction)
        for _ in range(TEARS):
            connections = len(proxy.connections)
            line.tear_after_packets = source.randrange(30)
            await proxy.has_carried(connections + 1)
        line.tear_after_packets = None
        await scene.settle()
        assert not any(seen.stale_ids for seen in proxy.connections)


async def test_one_byte_at_a_time(
    mosquitto: RunningBroker, database_url: str, tmp_path: Path, seed: int
) -> None:
    async with (
        start_proxy(mosquitto.port) as proxy,
        arena(tmp_path, mosquitto, database_url, seed, devices=5, ingest_url=proxy.url) as scene,
    ):
        proxy.up.slice_bytes = proxy.down.slice_bytes = 1
        await scene.more_is_stored(15)
        proxy.heal()
        await scene.settle()


async def test_two_kilobytes_a_second(
    mosquitto: RunningBroker, database_url: str, tmp_path: Path, seed: int
) -> None:
    """As much is said as fits through."""
    async with (
        start_proxy(mosquitto.port) as proxy,
        arena(tmp_path, mosquitto, database_url, seed, devices=3, ingest_url=proxy.url) as scene,
    ):
        connections = len(proxy.connections)
        proxy.down.bytes_per_s = SLOW_BYTES_PER_S
        await scene.more_is_stored(15)
        assert len(proxy.connections) == connections
        proxy.heal()
        await scene.settle()


async def test_flaps_leave_nothing_behind(
    mosquitto: RunningBroker, database_url: str, tmp_path: Path, seed: int
) -> None:
    """Of every process of the platform: what the start of a connection does is done many times."""
    async with (
        start_proxy(mosquitto.port) as proxy,
        arena(
            tmp_path,
            mosquitto,
            database_url,
            seed,
            ingest_url=proxy.url,
            presence_url=proxy.url,
            broker_reconnect_limit_s=0.2,
            broker_timeout_s=1,
        ) as scene,
    ):
        most = 0

        def note_the_queue() -> bool:
            nonlocal most
            most = max(most, scene.count("SELECT count(*) FROM live_changes"))
            return flapping.done()

        flapping = asyncio.ensure_future(flap(proxy, FLAPS, random.Random(seed)))
        await eventually(note_the_queue, 60)
        await flapping
        assert most <= 3 * len(scene.fleet.device_ids), "the queue grows with every connection"
        await scene.settle()


async def test_a_large_burst_through_a_torn_line_arrives_once(
    mosquitto: RunningBroker, database_url: str, tmp_path: Path, seed: int
) -> None:
    """Batches larger than a read, cut at a random packet: what is read ahead is lost with it."""
    count = 3_000
    async with (
        start_proxy(mosquitto.port) as proxy,
        arena(tmp_path, mosquitto, database_url, seed, devices=2, ingest_url=proxy.url) as scene,
    ):
        topic = DEVICE_HEARTBEAT.topic(scene.fleet.device_ids[0])
        burst = [Publication(topic, heartbeat(seq=n)) for n in range(1, count + 1)]
        proxy.down.tear_after_packets = random.Random(seed).randrange(500, 1500)
        async with connect(Address.parse(mosquitto.url), "burst", clean_session=True) as sender:
            await sender.publish_all(burst)
        query = "SELECT count(*) FROM heartbeats WHERE boot_id = %s"
        await eventually(lambda: scene.count(query, BOOT) == count, NOTICED_IN_S)
        assert not any(seen.stale_ids for seen in proxy.connections)
