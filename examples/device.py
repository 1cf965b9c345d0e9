"""A device in forty lines: `python examples/device.py mqtt://127.0.0.1:1883 greenhouse-1`.

Register it first: `fleet device register greenhouse-1 --site garden`; `fleet device list` shows it.
It reports a temperature as a custom metric, keeps what is not receipted in memory, and says goodbye
on Ctrl-C.
"""  # noqa: INP001 (a script, not a package)

import argparse
import asyncio
import random
import signal
from collections.abc import Callable, Sequence

from device_agent import logs
from device_agent.agent import Agent
from device_agent.host import Sample
from device_agent.machine import Machine, MachineSettings
from device_agent.moment import Moment, present
from device_agent.spool import MemoryStorage, Spool
from fleet_core.contract.errors import ConfigError
from fleet_core.contract.messages import Connector, Metrics
from fleet_core.runtime.mqtt import Address


class Greenhouse:
    """What the agent asks of the machine it runs on."""

    def sample(self, _now: Moment) -> Sample:
        temperature = random.gauss(24, 1)
        custom = {"temperature_celsius": temperature}
        metrics = Metrics(cpu_percent=8, ram_percent=30, disk_percent=40, custom=custom)
        return Sample(metrics)

    async def watch(self, _changed: Callable[[Sequence[Connector]], None]) -> None:
        await asyncio.get_running_loop().create_future()


async def main(url: str, device_id: str) -> None:
    host, stop = Greenhouse(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    settings = MachineSettings(device_id=device_id, interval_s=10)
    machine = Machine(settings, Spool(MemoryStorage()), host.sample, present())
    machine.add_event("greenhouse.opened", present(), message="the example is running")
    await Agent(device_id, Address.parse(url), machine, host).run(stop)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="One device of a fleet, as an example.")
    parser.add_argument("url", metavar="URL", help="the broker, such as mqtt://127.0.0.1:1883")
    parser.add_argument("device_id", metavar="DEVICE", help="a registered id, such as greenhouse-1")
    options = parser.parse_args()
    logs.set_up()
    try:
        asyncio.run(main(options.url, options.device_id))
    except ConfigError as error:
        parser.error(str(error))
