"""`fleet-agent`: read the configuration, build the agent, run it until SIGTERM or SIGINT.

Exit codes: 0 ended as asked, 2 usage or configuration; with `--once` also 6 no receipt in time and
9 broker unreachable. Logs go to stderr.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from device_agent import config, cpu, logs
from device_agent.agent import Agent
from device_agent.connectors import ConnectorWatch, Provider, StaticFile
from device_agent.data_directory import DataDirectory, default_path
from device_agent.docker import DockerSocket
from device_agent.identity import Identity, settle
from device_agent.information import agent_version
from device_agent.logs import fields
from device_agent.machine import Machine, MachineSettings
from device_agent.metrics import MetricsProbe
from device_agent.moment import present
from device_agent.observer import Observer
from device_agent.once import RECEIPT_TIMEOUT_S, FirstReceipt
from device_agent.spool import Spool, SpoolLimits
from device_agent.spool_sqlite import SqliteStorage
from device_agent.this_machine import ThisMachine
from fleet_core.contract.errors import ConfigError

logger = logging.getLogger("device_agent")

EXIT_USAGE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    options = _parser().parse_args(arguments)
    logs.set_up()
    try:
        return _run(options, os.environ)
    except ConfigError as error:
        sys.stderr.write(f"fleet-agent: {error}\n")
        return EXIT_USAGE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fleet-agent", description="The agent of a fleet device.")
    parser.add_argument("--version", action="version", version=f"fleet-agent {agent_version()}")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="connect and keep the platform informed")
    run.add_argument("--config", type=Path, metavar="FILE", help="a TOML file")
    run.add_argument(
        "--data-dir", type=Path, metavar="DIRECTORY", help="where the agent keeps state"
    )
    run.add_argument("--once", action="store_true", help="one heartbeat, its receipt, and out")
    return parser


def _run(options: argparse.Namespace, environment: Mapping[str, str]) -> int:
    data_path = options.data_dir or _data_path(environment)
    settings = config.load(options.config, data_path, environment)
    directory = DataDirectory(data_path)
    try:
        identity = settle(settings, directory)
        limits = SpoolLimits(settings.spool.rows_limit, settings.spool.size_limit_bytes)
        spool = Spool(SqliteStorage(directory.spool_path), limits)
        try:
            host = _host(settings)
            return asyncio.run(_live(settings, identity, spool, host, once=options.once))
        finally:
            spool.close()
    finally:
        directory.close()


async def _live(
    settings: config.Settings, identity: Identity, spool: Spool, host: ThisMachine, *, once: bool
) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await host.look()
    machine_settings = MachineSettings(
        device_id=identity.device_id,
        interval_s=settings.heartbeat_interval_s,
        spool_heartbeats=settings.spool.heartbeats or once,
        measured_after_s=cpu.WINDOW_MIN_S,
    )
    machine = Machine(machine_settings, spool, host.sample, present())
    machine.add_event("agent.started", present(), data={"version": agent_version()})
    logger.info("agent.started", extra=fields(device=identity.device_id, boot=machine.boot_id))
    first_receipt = FirstReceipt(machine, stop)
    observer = first_receipt if once else Observer()
    agent = Agent(identity.device_id, identity.address, machine, host, observer=observer)
    if once:
        loop.call_later(RECEIPT_TIMEOUT_S, first_receipt.give_up)
    await agent.run(stop)
    return first_receipt.exit_code if once else 0


def _host(settings: config.Settings) -> ThisMachine:
    section = settings.connectors
    providers: list[Provider] = []
    if section.file:
        providers.append(StaticFile(Path(section.file)))
    socket_path = section.docker_socket
    if socket_path == "auto":
        socket_path = config.DOCKER_SOCKET if Path(config.DOCKER_SOCKET).exists() else ""
    if socket_path:
        pattern, label = section.docker_name_pattern, section.docker_type_label
        providers.append(DockerSocket(Path(socket_path), pattern, label))
    probe = MetricsProbe(settings.disk_path, present())
    watch = ConnectorWatch(providers)
    return ThisMachine(probe, watch, section.poll_interval_s, settings.stack_version)


def _data_path(environment: Mapping[str, str]) -> Path:
    if environment.get("FLEET_AGENT_DATA_DIR"):
        return Path(environment["FLEET_AGENT_DATA_DIR"])
    state_home = environment.get("XDG_STATE_HOME", "")
    return default_path(Path.home(), state_home, root=os.geteuid() == 0)


if __name__ == "__main__":
    sys.exit(main())
