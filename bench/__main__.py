"""`make bench`: heartbeats committed per second, and what limits them.

One run on one machine measures, interleaved round by round on the same Mosquitto:

- the ceiling: the bare client (`runtime.mqtt`), which receives and acknowledges and does nothing;
- the platform: a real `handlers run ingest` process, from PUBLISH to COMMIT and PUBACK.

The load is a closed loop: the publisher may be at most `OUTSTANDING` messages ahead of what was
received or committed. CPU time is that of each process over the measured window.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg

from bench.publisher import Publisher
from fleet_core.contract.operations import NewDevice
from fleet_core.contract.topics import DEVICE_HEARTBEAT, SERVICE_STATUS
from fleet_core.registry.counters import HEARTBEATS_STORED
from fleet_core.registry.migrate import migrate
from fleet_core.registry.store import open_registry
from fleet_core.runtime.event_loop import run_event_loop
from fleet_core.runtime.mqtt import Address, connect
from fleet_core.runtime.postgres import serve
from tests.fixtures.brokers import RunningBroker, start_mosquitto

OUTSTANDING = 20_000
REGISTRATION_PAGE = 5000
WARM_UP_S = 3.0
POLL_INTERVAL_S = 0.05


class Cpu:
    """CPU seconds of a process and all its descendants, since it was made."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._start = self._seconds()

    def _seconds(self) -> float:
        total = 0.0
        for process in (self._root, *self._root.children(recursive=True)):
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system
        return total

    def used_s(self) -> float:
        """CPU seconds since this object was made."""
        return self._seconds() - self._start


async def bare_client(broker: RunningBroker, devices: list[str], seconds: float) -> float:
    """Messages per second that the client receives and acknowledges, and nothing else."""
    received = 0
    async with connect(
        Address.parse(broker.url), "bench-receiver", clean_session=True
    ) as connection:
        await connection.subscribe([(DEVICE_HEARTBEAT.filter(), 1)])
        with Publisher(broker.port, devices) as publisher:
            started_at, counted_from = None, 0
            while True:
                publisher.allowed.value = received + OUTSTANDING
                deliveries = await asyncio.wait_for(connection.receive(1000), 30)
                connection.acknowledge(deliveries)
                received += len(deliveries)
                now = time.perf_counter()
                if started_at is None:
                    started_at, counted_from = now + WARM_UP_S, received
                elif now < started_at:
                    counted_from = received
                elif now - started_at >= seconds:
                    return (received - counted_from) / (now - started_at)


async def platform(
    broker: RunningBroker, dsn: str, devices: list[str], seconds: float, *, receipt: bool
) -> dict[str, Any]:
    """What the real ingest process commits, and what each process spends on it."""
    handler = _start_ingest(broker, dsn)
    try:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            postmaster = await _postmaster_pid(connection)
            base = await _stored(connection)
            await _until_online(broker)
            with Publisher(broker.port, devices, receipt=receipt) as publisher:
                await _follow(connection, publisher, base, WARM_UP_S)
                pids = {
                    "handler": handler.pid,
                    "broker": broker.pid,
                    "database": postmaster,
                    "publisher": publisher.pid,
                }
                cpu = {name: Cpu(pid) for name, pid in pids.items()}
                before, started_at = await _stored(connection), time.perf_counter()
                await _follow(connection, publisher, base, seconds)
                committed = await _stored(connection) - before
                elapsed_s = time.perf_counter() - started_at
                used = {name: meter.used_s() for name, meter in cpu.items()}
            hot = await _hot_ratio(connection)
    finally:
        handler.terminate()
        handler.wait(30)
    return {
        "committed_per_s": committed / elapsed_s,
        "cpu_us_per_message": {n: 1e6 * s / max(committed, 1) for n, s in used.items()},
        "hot_update_ratio": hot,
    }


def _start_ingest(broker: RunningBroker, dsn: str) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "FLEET_DATABASE_URL": dsn,
        "FLEET_BROKER_URL": broker.url,
        "FLEET_LOG_LEVEL": "warning",
    }
    return subprocess.Popen([sys.executable, "-m", "handlers", "run", "ingest"], env=environment)


@contextlib.contextmanager
def _workspace() -> Iterator[Path]:
    """A temporary directory that the database's own user can enter where root runs the bench."""
    with tempfile.TemporaryDirectory(prefix="fleet-bench-") as name:
        directory = Path(name)
        directory.chmod(0o711)
        yield directory


async def _until_online(broker: RunningBroker) -> None:
    """Wait for the ingest process: QoS 1 without a subscriber is nobody's message."""
    async with connect(Address.parse(broker.url), "bench-waiter", clean_session=True) as connection:
        await connection.subscribe([(SERVICE_STATUS.filter("service.ingest"), 1)])
        for delivery in await asyncio.wait_for(connection.receive(1), 30):
            connection.acknowledge([delivery])


async def _follow(
    connection: psycopg.AsyncConnection, publisher: Publisher, base: int, seconds: float
) -> None:
    """Let the publisher stay `OUTSTANDING` ahead of the commits for `seconds`."""
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        publisher.allowed.value = await _stored(connection) - base + OUTSTANDING
        await asyncio.sleep(POLL_INTERVAL_S)


async def _stored(connection: psycopg.AsyncConnection) -> int:
    cursor = await connection.execute(
        "SELECT coalesce(sum(value), 0)::bigint FROM counters WHERE name = %s", (HEARTBEATS_STORED,)
    )
    row = await cursor.fetchone()
    return int(row[0]) if row else 0


async def _postmaster_pid(connection: psycopg.AsyncConnection) -> int:
    backend = psutil.Process(connection.info.backend_pid)
    parent = backend.parent()
    return parent.pid if parent is not None else backend.pid


async def _hot_ratio(connection: psycopg.AsyncConnection) -> float:
    cursor = await connection.execute(
        "SELECT n_tup_hot_upd::float / greatest(n_tup_upd, 1) FROM pg_stat_user_tables"
        " WHERE relname = 'device_state'"
    )
    row = await cursor.fetchone()
    return float(row[0]) if row else 0.0


async def _register(dsn: str, devices: list[str]) -> None:
    async with open_registry(dsn) as registry:
        for start in range(0, len(devices), REGISTRATION_PAGE):
            page = [
                NewDevice(device_id=device_id, name=device_id, site="bench")
                for device_id in devices[start : start + REGISTRATION_PAGE]
            ]
            async with registry.transaction() as tx:
                await tx.devices.register("default", page)


async def _measure(options: argparse.Namespace, results: dict[str, Any]) -> None:
    devices = [f"bench-{index:07d}" for index in range(options.devices)]
    with _workspace() as directory, serve(directory) as database:
        dsn = database.url()
        await migrate(dsn)
        await _register(dsn, devices)
        broker_directory = directory / "broker"
        broker_directory.mkdir()
        ceilings, runs = [], []
        for _ in range(options.rounds):
            with start_mosquitto(broker_directory) as broker:
                ceilings.append(await bare_client(broker, devices, options.seconds / 2))
                broker.stop()
                broker.forget()
                broker.start()
                runs.append(
                    await platform(broker, dsn, devices, options.seconds, receipt=options.receipts)
                )
    ceiling = statistics.median(ceilings)
    best = sorted(runs, key=lambda run: run["committed_per_s"])[len(runs) // 2]
    results.update(
        devices=options.devices,
        rounds=options.rounds,
        receipts=options.receipts,
        committed_per_s=round(best["committed_per_s"]),
        ceiling_client_per_s=round(ceiling),
        eta=round(best["committed_per_s"] / ceiling, 3),
        cpu_us_per_message={n: round(v, 1) for n, v in best["cpu_us_per_message"].items()},
        hot_update_ratio=round(best["hot_update_ratio"], 3),
    )


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--devices", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--receipts", action="store_true", help="heartbeats ask for a receipt")
    options = parser.parse_args()
    results: dict[str, Any] = {}
    run_event_loop(_measure(options, results))
    for name, value in results.items():
        print(f"{name:24} {value}")
    print(json.dumps(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
