"""The machine a simulated device pretends to run on: a `device_agent.host.Host` out of a seed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

from device_agent.host import Sample
from device_agent.moment import Moment
from fleet_core.contract.messages import Connector, ConnectorStatus, DeviceInfo, Metrics
from simulator.dice import dice
from simulator.roster import SimulatedDevice

GIB = 2**30
CONNECTOR_TYPES = ("modbus", "opc-ua", "bacnet", "canbus", "http")
HOT_CPU = (91.0, 99.0)
CALM_CPU = (4.0, 62.0)
CALM_RAM = (20.0, 70.0)
CALM_DISK = (15.0, 74.0)


class Walk:
    """A value that wanders between two bounds, a little with each step."""

    def __init__(self, source: random.Random, bounds: tuple[float, float], step: float) -> None:
        self._source, self._bounds, self._step = source, bounds, step
        self._value = source.uniform(*bounds)

    def next(self) -> float:
        """The next value."""
        low, high = self._bounds
        moved = self._value + self._source.uniform(-self._step, self._step)
        self._value = min(high, max(low, moved))
        return round(self._value, 1)


class SimulatedMachine:
    """Implements `host.Host`. A calm device scores 100; a hot one loses 30 points for its CPU."""

    def __init__(self, device: SimulatedDevice, seed: int, started_s: float) -> None:
        source = dice(seed, device.device_id, "machine")
        self._started_s = started_s - source.randint(60, 40 * 86_400)
        self._cpu = Walk(source, HOT_CPU if device.hot else CALM_CPU, 4.0)
        self._ram = Walk(source, CALM_RAM, 1.5)
        self._disk = Walk(source, CALM_DISK, 0.2)
        self._received = Walk(source, (1e3, 4e6), 2e5)
        self._sent = Walk(source, (1e3, 1e6), 5e4)
        self._ram_total_bytes = source.choice((2, 4, 8, 16)) * GIB
        self._disk_total_bytes = source.choice((16, 32, 64, 256)) * GIB
        self._cpu_count = source.choice((2, 4, 8))
        types = source.sample(CONNECTOR_TYPES, source.randint(1, 3))
        self._connectors = [
            Connector(name=f"connector-{word}", type=word, status=ConnectorStatus.RUNNING)
            for word in types
        ]
        self._info = DeviceInfo(
            hostname=device.device_id,
            os="Debian GNU/Linux 12 (bookworm)",
            kernel=f"6.1.0-{source.randint(18, 32)}",
            architecture="x86_64" if "x86" in device.tags["hardware"] else "aarch64",
            addresses=[
                f"10.{source.randint(0, 255)}.{source.randint(0, 255)}.{source.randint(2, 254)}"
            ],
            agent_version="simulated",
            stack_version=source.choice(("2.3.0", "2.4.0", "2.4.1")),
        )

    def sample(self, now: Moment) -> Sample:
        ram, disk = self._ram.next(), self._disk.next()
        metrics = Metrics(
            cpu_percent=self._cpu.next(),
            ram_percent=ram,
            disk_percent=disk,
            cpu_count=self._cpu_count,
            ram_used_bytes=int(self._ram_total_bytes * ram / 100),
            ram_total_bytes=self._ram_total_bytes,
            disk_used_bytes=int(self._disk_total_bytes * disk / 100),
            disk_total_bytes=self._disk_total_bytes,
            network_received_bytes_per_s=self._received.next(),
            network_sent_bytes_per_s=self._sent.next(),
            uptime_s=int(now.elapsed_s - self._started_s),
        )
        return Sample(metrics, self._connectors, self._info)

    async def watch(self, _changed: Callable[[Sequence[Connector]], None]) -> None:
        await asyncio.get_running_loop().create_future()
