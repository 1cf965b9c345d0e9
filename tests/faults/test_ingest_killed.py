"""Fault 1: kill -9 an ingest process, at the worst moments and at random ones."""

from __future__ import annotations

import random
from pathlib import Path

from tests.faults.arena import LOCK_LAST_STATEMENT, arena
from tests.fixtures.brokers import RunningBroker
from tests.fixtures.eventually import eventually
from tests.fixtures.platform import held_lock, waiting_for_locks
from tests.fixtures.proxy import after, start_proxy

RANDOM_KILLS = 4


async def test_killed_before_commit_nothing_is_lost_or_stored_twice(
    broker: RunningBroker, database_url: str, tmp_path: Path, seed: int
) -> None:
    async with arena(tmp_path, broker, database_url, seed) as scene:
        with held_lock(database_url, LOCK_LAST_STATEMENT):
            await eventually(lambda: waiting_for_locks(database_url) > 0)
            before = scene.stored()
            scene.ingest.kill()
            assert scene.stored() == before, "a batch became visible without its commit"
        scene.ingest.start()
        await scene.settle()


async def test_killed_between_commit_and_ack_nothing_is_stored_twice(
    broker: RunningBroker, database_url: str, tmp_path: Path, seed: int
) -> None:
    async with (
        start_proxy(broker.port) as proxy,
        arena(tmp_path, broker, database_url, seed, ingest_url=proxy.url) as scene,
    ):
        proxy.up.hold()
        await scene.more_is_stored()
        before = scene.stored()
        scene.ingest.kill()
        proxy.cut()
        proxy.heal()
        assert before > 0
        scene.ingest.start()
        await scene.settle()


async def test_killed_in_the_middle_of_acknowledging_nothing_is_stored_twice(
    broker: RunningBroker, database_url: str, tmp_path: Path, seed: int
) -> None:
    async with (
        start_proxy(broker.port) as proxy,
        arena(tmp_path, broker, database_url, seed, ingest_url=proxy.url) as scene,
    ):
        proxy.up.pubacks_until_hold = 7
        await eventually(lambda: proxy.up.held_packets > 0)
        scene.ingest.kill()
        proxy.cut()
        proxy.heal()
        scene.ingest.start()
        await scene.settle()
        assert not any(seen.stale_ids for seen in proxy.connections)


async def test_killed_at_random_moments_under_load(
    broker: RunningBroker, database_url: str, tmp_path: Path, seed: int
) -> None:
    source = random.Random(seed)
    async with arena(tmp_path, broker, database_url, seed, devices=60) as scene:
        for _ in range(RANDOM_KILLS):
            await after(source.uniform(0.1, 1.0))
            scene.ingest.kill()
            scene.ingest.start()
            await scene.more_is_stored()
        await scene.settle()


async def test_on_the_embedded_broker_receipts_alone_save_every_record(
    embedded: RunningBroker, database_url: str, tmp_path: Path, seed: int
) -> None:
    """The broker dies together with the handler, and with it all that it had acknowledged."""
    async with arena(tmp_path, embedded, database_url, seed) as scene:
        with held_lock(database_url, LOCK_LAST_STATEMENT):
            await eventually(lambda: waiting_for_locks(database_url) > 0)
            lost = await eventually(
                lambda: scene.journals().acked - frozenset(scene.snapshot().stored)
            )
            scene.ingest.kill()
            embedded.kill()
        embedded.start()
        scene.ingest.start()
        snapshot = await scene.settle()
        assert lost <= frozenset(snapshot.stored)
