"""The fleet: one real agent per row of the roster, in one event loop.

- Devices start one after the other, `ramp_per_s` a second.
- To stop, all of them say goodbye at once, within `STOP_TIMEOUT_S`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

import msgspec

from device_agent.agent import Agent
from device_agent.machine import Machine, MachineSettings
from device_agent.moment import present
from device_agent.spool import MemoryStorage, Spool, SpoolLimits
from fleet_core.runtime.mqtt import Address
from simulator.behaviour import CuttableDelays, SilentMachine, cuts
from simulator.dice import dice
from simulator.journal import DeviceObserver, Journal, Tally
from simulator.roster import SimulatedDevice
from simulator.simulated_machine import SimulatedMachine

SPOOL_LIMITS = SpoolLimits(rows=500, size_bytes=2**20)
STOP_TIMEOUT_S = 5.0
PROGRESS_INTERVAL_S = 5.0


class FleetSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the fleet behaves as a whole."""

    address: Address
    interval_s: int
    seed: int
    ramp_per_s: float
    churn_percent_per_min: float = 0


class Fleet:
    """All simulated devices of this process. Runs once."""

    def __init__(
        self,
        settings: FleetSettings,
        devices: Sequence[SimulatedDevice],
        journal: Journal | None = None,
    ) -> None:
        self.tally = Tally()
        self._settings, self._devices, self._journal = settings, devices, journal
        self._agents: dict[str, tuple[Agent, CuttableDelays]] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Live until `stop`, then have every device say goodbye."""
        async with asyncio.TaskGroup() as group:
            helpers = [
                group.create_task(self._start_all(group, stop)),
                group.create_task(self._cut_lines()),
                group.create_task(self._show_progress()),
            ]
            await stop.wait()
            for helper in helpers:
                helper.cancel()
        self._write_progress("stopped")

    async def _start_all(self, group: asyncio.TaskGroup, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        for index, device in enumerate(self._devices):
            await asyncio.sleep(began_s + index / self._settings.ramp_per_s - loop.time())
            group.create_task(self._agent(device).run(stop))

    def _agent(self, device: SimulatedDevice) -> Agent:
        settings, now = self._settings, present()
        host = SimulatedMachine(device, settings.seed, now.elapsed_s)
        make = SilentMachine if device.silent else Machine
        machine = make(
            MachineSettings(device_id=device.device_id, interval_s=settings.interval_s),
            Spool(MemoryStorage(), SPOOL_LIMITS),
            host.sample,
            now,
        )
        delays = CuttableDelays(dice(settings.seed, device.device_id, "delays"))
        observer = DeviceObserver(device.device_id, machine, present, self.tally, self._journal)
        agent = Agent(
            device.device_id, settings.address, machine, host, delays=delays, observer=observer
        )
        self._agents[device.device_id] = agent, delays
        return agent

    async def _cut_lines(self) -> None:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        names = [device.device_id for device in self._devices if not device.silent]
        for at_s, name in cuts(names, self._settings.churn_percent_per_min, self._settings.seed):
            await asyncio.sleep(began_s + at_s - loop.time())
            if name in self._agents:
                agent, delays = self._agents[name]
                if agent.cut():
                    delays.cut()
                    self.tally["cut"] += 1

    async def _show_progress(self) -> None:
        while True:
            await asyncio.sleep(PROGRESS_INTERVAL_S)
            self._write_progress("running")

    def _write_progress(self, word: str) -> None:
        names = ("connected", "sent", "acked", "receipted", "lost", "cut")
        counts = " ".join(f"{name}={self.tally[name]}" for name in names)
        sys.stderr.write(f"{word} devices={len(self._agents)}/{len(self._devices)} {counts}\n")
        sys.stderr.flush()
