"""Presence heals itself: what the platform did not hear is nobody's silence."""

from __future__ import annotations

import asyncio
from pathlib import Path

from fleet_core.registry.store import open_registry
from handlers.presence import announce_all
from tests.faults.arena import Arena, arena
from tests.fixtures.brokers import RunningBroker
from tests.fixtures.checker import read_database
from tests.fixtures.eventually import eventually
from tests.fixtures.platform import register
from tests.fixtures.proxy import after

AWAY_S = 10
"""More than the eight seconds after which a device that is heard counts as gone."""
PAUSE_S = 15


async def nothing_happened(scene: Arena) -> None:
    """Every device is online and was so all the time."""
    await scene.more_is_stored(len(scene.fleet.device_ids))
    await eventually(lambda: scene.statuses() == {"online": len(scene.fleet.device_ids)})
    assert {change[1:] for change in scene.events()} == {("unseen", "online")}


async def test_ingest_is_away_for_longer_than_devices_may_be(
    mosquitto: RunningBroker, database_url: str, tmp_path: Path, seed: int
) -> None:
    async with arena(tmp_path, mosquitto, database_url, seed) as scene:
        assert await asyncio.to_thread(scene.ingest.terminate) == 0
        await after(AWAY_S)
        scene.ingest.start()
        await nothing_happened(scene)
        await scene.settle()


async def test_the_platform_restarts_as_a_whole(
    broker: RunningBroker, database_url: str, tmp_path: Path, seed: int
) -> None:
    async with arena(tmp_path, broker, database_url, seed) as scene:
        for handler in scene.platform.handlers.values():
            handler.kill()
        for handler in scene.platform.handlers.values():
            handler.start()
        await nothing_happened(scene)
        await scene.settle()


async def test_ingest_is_paused_and_goes_on(
    mosquitto: RunningBroker, database_url: str, tmp_path: Path, seed: int
) -> None:
    """The broker gave it up meanwhile; nobody told it."""
    async with arena(tmp_path, mosquitto, database_url, seed) as scene:
        scene.ingest.pause()
        await after(PAUSE_S)
        scene.ingest.resume()
        await nothing_happened(scene)
        await scene.settle()


async def test_announcing_again_does_not_lengthen_the_queue(database_url: str) -> None:
    """A broker that comes and goes while nothing can be published must not fill the registry."""
    devices = [f"gw-{number}" for number in range(10)]
    await register(database_url, devices)
    async with open_registry(database_url) as registry:
        for _ in range(3):
            await announce_all(registry)
    assert read_database(database_url).live_changes == len(devices)
