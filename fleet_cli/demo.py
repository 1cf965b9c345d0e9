"""`fleet demo`: the whole platform and a simulated fleet, in a directory that is thrown away.

- Nothing of an installation is touched: a temporary data directory and a free port, whatever
  `FLEET_*` says, unless `--data-dir` names a directory to keep.
- On a terminal a live table; otherwise it is quiet and its last line is one JSON object.
- Exit code 0 if every device was seen, also when a signal ended it; 130 if a signal ended it
  before that; 7 or 8 if its time was up before some or all devices were seen.
- The simulation is alive: some devices run hot (warning), one falls silent after two heartbeats
  (late after two intervals, so a warning), and now and then one loses its line for ten seconds
  (offline by its will, and back).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from fleet_cli.client import operator_session
from fleet_cli.errors import CommandFailed, UsageFailed
from fleet_cli.formats import OutputFormat
from fleet_cli.observation import Observation, Report, observe
from fleet_cli.output import resolve, write
from fleet_cli.processes import (
    ROLES,
    BrokerKind,
    Plan,
    Platform,
    program,
    program_output,
    running,
    tied,
)
from fleet_cli.stack import BrokerOption, child_environment, explained, tell
from fleet_core.contract.operations import (
    MAX_REGISTRATIONS,
    OPERATIONS,
    DeviceRegister,
    NewDevice,
)
from fleet_core.runtime.directory import let_servers_enter, owned
from fleet_core.runtime.mqtt import Address
from fleet_core.runtime.supervisor import Child, Interrupted, until_signalled

HOST = "127.0.0.1"
OPERATOR = "operator.demo"
MAX_DEVICES = 5000
HOT_SHARE = 0.12
CHURN_PERCENT_PER_MIN = 24
"""Of 25 devices six lose their line in a minute, one after the other."""


class Simulation(msgspec.Struct, frozen=True, kw_only=True):
    """The fleet that is simulated."""

    devices: int
    interval_s: int
    seed: int

    def arguments(self) -> tuple[str, ...]:
        """What makes the simulator's roster: at least one hot device, one silent of three."""
        hot = max(1, round(self.devices * HOT_SHARE))
        silent = 1 if self.devices >= 3 else 0
        return (
            *("--devices", str(self.devices), "--seed", str(self.seed)),
            *("--hot", str(100 * hot / self.devices)),
            *("--silent", str(100 * silent / self.devices)),
        )


def demo(
    *,
    for_s: Annotated[
        float | None,
        typer.Option(
            "--for", min=1, metavar="SECONDS", help="End so long after all runs; default: never."
        ),
    ] = None,
    devices: Annotated[
        int, typer.Option("--devices", min=1, max=MAX_DEVICES, help="How many to simulate.")
    ] = 25,
    interval: Annotated[
        int, typer.Option("--interval", min=1, max=300, help="Seconds between heartbeats.")
    ] = 10,
    seed: Annotated[int, typer.Option("--seed", help="The same seed, the same fleet.")] = 1,
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", help="Keep everything there.", show_default="temporary"),
    ] = None,
    broker: BrokerOption = BrokerKind.EMBEDDED,
    output: Annotated[
        OutputFormat | None,
        typer.Option("--output", "-o", help="table (default on a terminal) or json."),
    ] = None,
) -> None:
    """Show the whole platform with simulated devices. Ctrl-C ends it and leaves nothing behind."""
    chosen = resolve(output)
    if chosen not in (OutputFormat.TABLE, OutputFormat.JSON):
        raise UsageFailed(f"fleet demo can't write {chosen.value}", "use -o table or -o json")
    simulation = Simulation(devices=devices, interval_s=interval, seed=seed)
    observation = Observation(wanted=devices)
    interrupted = False
    with explained():
        try:
            work = _demo(simulation, observation, data_dir, broker, for_s=for_s, output=chosen)
            asyncio.run(until_signalled(work))
        except Interrupted:
            interrupted = True
    conclude(observation.report(), chosen, interrupted=interrupted)


def conclude(report: Report, output: OutputFormat, *, interrupted: bool) -> None:
    """Say how it went. Raises `CommandFailed` unless every device was seen."""
    if output is not OutputFormat.TABLE:
        write(msgspec.json.encode(report).decode() + "\n")
    else:
        tell(report.sentence())
    seen = report.devices - report.unseen
    if seen >= report.wanted:
        return
    message = f"{seen} of {report.wanted} devices were seen"
    if interrupted:
        raise CommandFailed("interrupted", message)
    raise CommandFailed("partial_failure" if seen else "all_failed", message)


async def _demo(
    simulation: Simulation,
    observation: Observation,
    data_dir: Path | None,
    broker: BrokerKind,
    *,
    for_s: float | None,
    output: OutputFormat,
) -> None:
    with _directory(data_dir) as directory, owned(directory):
        if output is OutputFormat.TABLE:
            tell(f"starting the platform and {simulation.devices} simulated devices …")
        async with running(_plan(directory, broker)) as platform:
            await platform.supervisor.unless_failed(_register(platform, simulation))
            await platform.supervisor.start(_simulator(platform, simulation))
            drawn = output is OutputFormat.TABLE and sys.stdout.isatty()
            watching = observe(str(platform.plan.address), OPERATOR, observation, drawn=drawn)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(for_s):
                    await platform.supervisor.unless_failed(watching)


@contextlib.contextmanager
def _directory(chosen: Path | None) -> Iterator[Path]:
    """The directory to use; one that nobody chose is deleted at the end."""
    if chosen is not None:
        yield chosen
        return
    temporary = Path(tempfile.mkdtemp(prefix="mqtt-fleet-demo-"))
    let_servers_enter(temporary)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary)


def _plan(directory: Path, broker: BrokerKind) -> Plan:
    return Plan(
        directory=directory,
        address=Address(HOST, _free_port()),
        broker=broker,
        roles=ROLES,
        environment={
            name: value
            for name, value in child_environment(None).items()
            if name in ("FLEET_LOG_LEVEL", "FLEET_LOG_FORMAT") or not name.startswith("FLEET_")
        },
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


async def _register(platform: Platform, simulation: Simulation) -> None:
    """Tell the registry who will talk: registration is never a side effect of talking."""
    roster = await asyncio.to_thread(program_output, "simulator", "--list", *simulation.arguments())
    devices = [msgspec.json.decode(line, type=NewDevice) for line in roster.splitlines()]
    async with operator_session(str(platform.plan.address), OPERATOR) as session:
        for start in range(0, len(devices), MAX_REGISTRATIONS):
            batch = devices[start : start + MAX_REGISTRATIONS]
            params = DeviceRegister(devices=batch, skip_existing=True)
            await session.request(OPERATIONS["device.register"], params)


def _simulator(platform: Platform, simulation: Simulation) -> Child:
    child = program(
        "simulator",
        os.environ,
        *("--url", str(platform.plan.address), "--interval", str(simulation.interval_s)),
        *("--churn", str(CHURN_PERCENT_PER_MIN), *simulation.arguments()),
    )
    return msgspec.structs.replace(child, command=tied(signal.SIGTERM, child.command))
