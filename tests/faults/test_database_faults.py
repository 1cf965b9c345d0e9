"""Faults 2 and 5: PostgreSQL dies, hangs, refuses to write, has no room, or is away for long.

The registry being down is not poison: nothing is acknowledged, nothing becomes a dead letter, no
device turns late or offline for it, and afterwards everything is caught up.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from fleet_core.contract.topics import DEVICE_HEARTBEAT
from fleet_core.runtime.mqtt import Address, Publication, connect
from tests.faults.arena import LOCK_LAST_STATEMENT, Arena, arena
from tests.faults.stage import heartbeat
from tests.fixtures.brokers import RunningBroker
from tests.fixtures.eventually import eventually
from tests.fixtures.platform import RunningPostgres, held_lock, waiting_for_locks
from tests.fixtures.proxy import after, start_proxy

LATE_AFTER_S = 8
"""As `tests.fixtures.platform.FAST` has it for devices that speak every second."""
OUTAGE_S = 20
OUTAGE_GROWTH_LIMIT_BYTES = 64 * 1024 * 1024
WAL_SEGMENT_BYTES = 16 * 1024 * 1024
FILL = (
    "WITH filled AS (INSERT INTO heartbeats SELECT 'filler-' || n, now(), gen_random_uuid(), n,"
    " now(), 100, 1, 1, 1, 1, 1, 1, 1, 1, to_jsonb(repeat('x', 20))"
    " FROM generate_series(1, %s) AS n RETURNING 1) SELECT count(*) FROM filled"
)
FLOOD = 15_000
FLOOD_PAYLOAD_BYTES = 10_000


def assert_nobody_was_blamed(scene: Arena) -> None:
    """No dead letter, and no device has been anything but unseen and online."""
    assert scene.count("SELECT count(*) FROM dead_letters") == 0
    changes = {(before, after) for _, before, after in scene.events()}
    assert changes <= {("unseen", "online"), ("online", "offline")}, changes
    # The only way to offline is the goodbye at the end.
    assert len(scene.events(("online", "offline"))) <= len(scene.fleet.device_ids)


async def test_postgresql_killed_during_a_batch(
    mosquitto: RunningBroker,
    postgres: RunningPostgres,
    fragile_url: str,
    tmp_path: Path,
    seed: int,
) -> None:
    async with arena(tmp_path, mosquitto, fragile_url, seed) as scene:
        with held_lock(fragile_url, LOCK_LAST_STATEMENT):
            await eventually(lambda: waiting_for_locks(fragile_url) > 0)
            postgres.kill()
        postgres.start()
        await scene.settle()
        assert_nobody_was_blamed(scene)


async def test_the_connections_of_the_pool_are_terminated(
    mosquitto: RunningBroker,
    postgres: RunningPostgres,
    fragile_url: str,
    tmp_path: Path,
    seed: int,
) -> None:
    async with arena(tmp_path, mosquitto, fragile_url, seed) as scene:
        for _ in range(5):
            assert postgres.terminate_backends() > 0
            await scene.more_is_stored()
        await scene.settle()
        assert_nobody_was_blamed(scene)


async def test_a_held_lock_makes_statements_time_out(
    mosquitto: RunningBroker,
    postgres: RunningPostgres,
    fragile_url: str,
    tmp_path: Path,
    seed: int,
) -> None:
    """The batch waits for the lock, times out and waits again."""
    timeout: dict[str, Any] = {"database_statement_timeout_s": 1}
    async with arena(tmp_path, mosquitto, fragile_url, seed, **timeout) as scene:
        with held_lock(fragile_url, "LOCK TABLE heartbeats IN ACCESS EXCLUSIVE MODE"):
            await eventually(lambda: scene.ingest.logged("waiting for the registry"))
            await after(2)
        await scene.settle()
        assert_nobody_was_blamed(scene)


async def test_a_lock_held_for_less_than_the_timeout_makes_nobody_late(
    mosquitto: RunningBroker,
    postgres: RunningPostgres,
    fragile_url: str,
    tmp_path: Path,
    seed: int,
) -> None:
    """A batch that neither commits nor fails is a gap in hearing, too: the sweep is free."""
    async with arena(tmp_path, mosquitto, fragile_url, seed) as scene:
        with held_lock(fragile_url, "LOCK TABLE heartbeats IN ACCESS EXCLUSIVE MODE"):
            await eventually(lambda: waiting_for_locks(fragile_url) > 0)
            await after(LATE_AFTER_S + 2)
        await scene.settle()
        assert_nobody_was_blamed(scene)


async def test_a_read_only_server(
    mosquitto: RunningBroker,
    postgres: RunningPostgres,
    fragile_url: str,
    tmp_path: Path,
    seed: int,
) -> None:
    async with arena(tmp_path, mosquitto, fragile_url, seed) as scene:
        postgres.set_read_only(True)
        try:
            await eventually(lambda: scene.ingest.logged("waiting for the registry"))
            await after(1)
        finally:
            postgres.set_read_only(False)
        await scene.settle()
        assert_nobody_was_blamed(scene)


async def test_a_disk_without_room(
    mosquitto: RunningBroker,
    postgres: RunningPostgres,
    fragile_url: str,
    tmp_path: Path,
    seed: int,
) -> None:
    """No file may grow beyond what the log of PostgreSQL needs, and the table is that large."""
    async with arena(tmp_path, mosquitto, fragile_url, seed) as scene:
        scene.count(FILL, 150_000)
        assert scene.count("SELECT pg_relation_size('heartbeats')") > WAL_SEGMENT_BYTES
        postgres.stop()
        postgres.start(file_limit_bytes=WAL_SEGMENT_BYTES)
        await eventually(lambda: "could not extend file" in postgres.log_text(), 30)
        await after(1)
        postgres.stop()
        postgres.start()
        await scene.settle()
        assert_nobody_was_blamed(scene)


async def test_the_database_is_away_under_load(
    mosquitto: RunningBroker,
    postgres: RunningPostgres,
    fragile_url: str,
    tmp_path: Path,
    seed: int,
) -> None:
    """No acknowledgement while it is away, bounded memory, catch-up, and nobody is blamed."""
    async with (
        start_proxy(mosquitto.port) as proxy,
        arena(
            tmp_path,
            mosquitto,
            fragile_url,
            seed,
            devices=100,
            ingest_url=proxy.url,
        ) as scene,
    ):
        before = scene.ingest.vitals()
        postgres.stop()
        await eventually(lambda: scene.ingest.logged("waiting for the registry"))
        await after(0.5)
        acknowledged = proxy.connections[-1].acknowledged
        await after(OUTAGE_S)
        assert proxy.connections[-1].acknowledged == acknowledged
        grown = scene.ingest.vitals().resident_bytes - before.resident_bytes
        assert grown < OUTAGE_GROWTH_LIMIT_BYTES
        postgres.start()
        await scene.catch_up()
        await scene.settle()
        assert_nobody_was_blamed(scene)


async def test_a_flood_at_qos_0_does_not_fill_the_memory_while_the_database_is_away(
    mosquitto: RunningBroker,
    postgres: RunningPostgres,
    fragile_url: str,
    tmp_path: Path,
    seed: int,
) -> None:
    """QoS 0 knows no in-flight window: only the process itself can bound what it holds of it."""
    async with arena(tmp_path, mosquitto, fragile_url, seed) as scene:
        before = scene.ingest.vitals()
        postgres.stop()
        payload = heartbeat(seq=2**40).ljust(FLOOD_PAYLOAD_BYTES)
        topic = DEVICE_HEARTBEAT.topic(scene.fleet.device_ids[0])
        async with connect(Address.parse(mosquitto.url), "flood", clean_session=True) as sender:
            for _ in range(FLOOD // 100):
                await sender.publish_all([Publication(topic, payload, qos=0)] * 100)
                await sender.publish(Publication("flood/done", b""))
        await after(1)
        grown = scene.ingest.vitals().resident_bytes - before.resident_bytes
        postgres.start()
        assert grown < OUTAGE_GROWTH_LIMIT_BYTES, f"{grown / 1e6:.0f} MB"


async def test_sigterm_while_the_database_is_away_ends_the_process(
    mosquitto: RunningBroker,
    postgres: RunningPostgres,
    fragile_url: str,
    tmp_path: Path,
    seed: int,
) -> None:
    async with arena(tmp_path, mosquitto, fragile_url, seed) as scene:
        postgres.stop()
        await eventually(lambda: scene.ingest.logged("waiting for the registry"))
        for handler in scene.platform.handlers.values():
            assert await asyncio.to_thread(handler.terminate) == 0
        postgres.start()
        for handler in scene.platform.handlers.values():
            handler.start()
        await scene.settle()


async def test_devices_that_died_during_an_outage_are_noticed_after_it(
    mosquitto: RunningBroker,
    postgres: RunningPostgres,
    fragile_url: str,
    tmp_path: Path,
    seed: int,
) -> None:
    """With nobody left to speak, nothing but the clock can tell that the platform hears again."""
    settings: dict[str, Any] = {
        "presence_late_after_intervals": 2,
        "presence_offline_after_intervals": 3,
    }
    async with arena(tmp_path, mosquitto, fragile_url, seed, **settings) as scene:
        scene.fleet.pause()
        postgres.stop()
        await eventually(
            lambda: (
                scene.ingest.logged("waiting for the registry")
                or scene.ingest.logged("the registry does not answer")
            ),
            20,
        )
        postgres.start()
        await eventually(lambda: scene.statuses() == {"offline": len(scene.fleet.device_ids)}, 40)
        scene.fleet.resume()
