"""Fault 3, on Mosquitto: killed with and without what it saved, stopped, and without a memory."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from broker.mosquitto import PERSISTENCE_FILE
from fleet_core.contract.codec import decode_as
from fleet_core.contract.messages import LiveDevice
from fleet_core.contract.topics import TENANT_DEVICES
from fleet_core.runtime.mqtt import Address, Connection, connect
from tests.faults.arena import LOCK_LAST_STATEMENT, Arena, arena
from tests.fixtures.brokers import RunningBroker
from tests.fixtures.eventually import eventually
from tests.fixtures.platform import held_lock, waiting_for_locks
from tests.fixtures.proxy import start_proxy


@asynccontextmanager
async def operator(scene: Arena) -> AsyncIterator[Connection]:
    """Somebody who follows the tenant's devices live."""
    address = Address.parse(scene.broker.url)
    async with connect(address, "operator.x", clean_session=True) as connection:
        await connection.subscribe([(TENANT_DEVICES.filter("default"), 1)])
        yield connection


async def live_pictures(scene: Arena) -> dict[str, str]:
    """The status of every device as the broker retains it."""
    pictures: dict[str, str] = {}
    async with operator(scene) as connection:
        try:
            async with asyncio.timeout(10):
                while len(pictures) < len(scene.fleet.device_ids):
                    for delivery in await connection.receive(100):
                        live = decode_as(LiveDevice, delivery.payload)
                        pictures[live.device_id] = live.status.value
        except TimeoutError:
            pass  # what is missing shows in the answer
    return pictures


def save_now(broker: RunningBroker, directory: Path) -> None:
    """Have Mosquitto write its memory to disk, as it does every thirty seconds."""
    (directory / PERSISTENCE_FILE).unlink(missing_ok=True)
    os.kill(broker.pid, signal.SIGUSR1)


@asynccontextmanager
async def handlers_first(scene: Arena) -> AsyncIterator[None]:
    """Let the handlers come back before the devices do. Otherwise what devices send to a broker
    that forgot the handlers' subscriptions is sent again after thirty seconds without a receipt."""
    connections = scene.ingest.running_connections
    scene.fleet.pause()
    yield
    await scene.ingest.connects(connections + 1)
    scene.fleet.resume()


async def presence_healed(scene: Arena) -> None:
    """Every device is online, none was ever called offline or late for what the broker did."""
    await eventually(lambda: scene.statuses() == {"online": len(scene.fleet.device_ids)}, 20)
    assert {change[1:] for change in scene.events()} == {("unseen", "online")}
    pictures = await live_pictures(scene)
    assert pictures == dict.fromkeys(scene.fleet.device_ids, "online")


@pytest.mark.parametrize("memory", ["saved", "as of the last save", "forgotten"])
async def test_mosquitto_is_killed(
    memory: str, mosquitto: RunningBroker, database_url: str, tmp_path: Path, seed: int
) -> None:
    async with arena(tmp_path, mosquitto, database_url, seed) as scene:
        if memory == "saved":
            save_now(mosquitto, tmp_path / "broker")
            await eventually((tmp_path / "broker" / PERSISTENCE_FILE).exists)
        async with handlers_first(scene):
            mosquitto.kill()
            if memory == "forgotten":
                mosquitto.forget()
            mosquitto.start()
        await scene.more_is_stored(len(scene.fleet.device_ids))
        await presence_healed(scene)
        await scene.settle()


async def test_mosquitto_is_stopped_gracefully(
    mosquitto: RunningBroker, database_url: str, tmp_path: Path, seed: int
) -> None:
    async with arena(tmp_path, mosquitto, database_url, seed) as scene:
        assert mosquitto.stop() == 0
        mosquitto.start()
        await scene.more_is_stored(len(scene.fleet.device_ids))
        await presence_healed(scene)
        await scene.settle()


async def test_a_broker_that_forgot_gets_no_stale_acknowledgement(
    mosquitto: RunningBroker, database_url: str, tmp_path: Path, seed: int
) -> None:
    """A batch of the old generation commits when the new one counts its packet ids from 1."""
    async with (
        start_proxy(mosquitto.port) as proxy,
        arena(tmp_path, mosquitto, database_url, seed, ingest_url=proxy.url) as scene,
    ):
        with held_lock(database_url, LOCK_LAST_STATEMENT):
            await eventually(lambda: waiting_for_locks(database_url) > 0)
            async with handlers_first(scene):
                mosquitto.kill()
                mosquitto.forget()
                mosquitto.start()
        await scene.settle()
        assert len(proxy.connections) >= 2
        assert proxy.connections[-1].acknowledged > 0
        assert not any(seen.stale_ids for seen in proxy.connections)
