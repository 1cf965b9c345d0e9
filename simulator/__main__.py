"""`python -m simulator`: a fleet of simulated devices against a broker on this machine.

`--list` writes the roster as JSON lines to stdout and ends; everything else is on stderr. Exit
codes: 0 ended as asked, 2 usage or configuration.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import re
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from device_agent import logs
from device_agent.identity import require_loopback
from fleet_core.contract.errors import ConfigError
from fleet_core.runtime.mqtt import Address
from fleet_core.runtime.parent import end_with_parent
from simulator.fleet import Fleet, FleetSettings
from simulator.journal import Journal
from simulator.roster import PREFIX_PATTERN, SimulatedDevice, roster

EXIT_USAGE = 2
DEVICES_LIMIT = 99_999
FILES_PER_DEVICE = 2
FILES_BESIDE = 64


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    options = _parser().parse_args(arguments)
    if options.exit_with_parent:
        end_with_parent()
    devices = roster(
        options.devices,
        options.seed,
        prefix=options.prefix,
        silent_percent=options.silent,
        hot_percent=options.hot,
    )
    if options.list:
        for device in devices:
            sys.stdout.write(_row(device))
        return 0
    logs.set_up(logging.ERROR)
    try:
        return _run(options, devices)
    except ConfigError as error:
        sys.stderr.write(f"simulator: {error}\n")
        return EXIT_USAGE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="simulator", description="Many simulated devices.")
    add = parser.add_argument
    add("--url", default="mqtt://127.0.0.1:1883", help="broker, mqtt://host:port")
    add("--devices", type=_number(int, 1, DEVICES_LIMIT), default=100, metavar="N")
    add("--interval", type=_number(int, 1, 300), default=30, metavar="SECONDS")
    add("--seed", type=int, default=1, metavar="K")
    add("--ramp", type=_number(float, 0.1, 10_000), default=100.0, metavar="DEVICES_PER_S")
    add("--churn", type=_number(float, 0, 600), default=0.0, metavar="PERCENT_PER_MIN")
    add("--silent", type=_number(float, 0, 100), default=0.0, metavar="PERCENT")
    add("--hot", type=_number(float, 0, 100), default=0.0, metavar="PERCENT")
    add("--for", type=_number(float, 0.1, 1e7), dest="duration_s", metavar="SECONDS")
    add("--journal", type=Path, metavar="FILE", help="append what was sent, acked, receipted")
    add("--list", action="store_true", help="write the roster as JSON lines and end")
    add("--exit-with-parent", action="store_true", help="end when the starting process ends")
    add("--prefix", type=_prefix, default="sim", metavar="WORD")
    return parser


def _number(kind: type[int | float], low: float, high: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        value = kind(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"must be from {low:g} to {high:g}")
        return value

    return number


def _prefix(text: str) -> str:
    if re.fullmatch(PREFIX_PATTERN, text) is None:
        raise argparse.ArgumentTypeError("lower-case letters, digits and '-', at most 41")
    return text


def _row(device: SimulatedDevice) -> str:
    row = {"device_id": device.device_id, "name": device.name, "site": device.site}
    return msgspec.json.encode({**row, "tags": device.tags}).decode() + "\n"


def _run(options: argparse.Namespace, devices: Sequence[SimulatedDevice]) -> int:
    address = Address.parse(options.url)
    require_loopback(address)
    _allow_files(len(devices) * FILES_PER_DEVICE + FILES_BESIDE)
    settings = FleetSettings(
        address=address,
        interval_s=options.interval,
        seed=options.seed,
        ramp_per_s=options.ramp,
        churn_percent_per_min=options.churn,
    )
    journal = Journal(options.journal) if options.journal else None
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_live(Fleet(settings, devices, journal), options.duration_s))
    finally:
        if journal is not None:
            journal.close()
    return 0


async def _live(fleet: Fleet, duration_s: float | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if duration_s is not None:
        loop.call_later(duration_s, stop.set)
    await fleet.run(stop)


def _allow_files(count: int) -> None:
    """Raise this process's limit of open files to `count`. Raises `ConfigError` if it may not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and count > hard:
        raise ConfigError(f"{count} open files are needed and this process may have {hard}")
    if soft != resource.RLIM_INFINITY and count > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


if __name__ == "__main__":
    sys.exit(main())
