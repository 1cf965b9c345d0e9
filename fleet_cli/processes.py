"""Which processes make the platform, in which order, and how to tell that it is ready.

- Order: database, schema, broker, then one process for each handler role. Stopped in reverse.
- The platform is ready when every role says `online` on its retained service status, as the very
  process that was started here: a status that an earlier run left behind does not count.
- Processes of ours end with this one (`--exit-with-parent`). PostgreSQL and Mosquitto do where
  `setpriv` (util-linux) is installed; a PostgreSQL that was left behind is stopped at the next
  start.
- Nothing here is imported from the server's packages: they are started, not called.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from fleet_cli.programs import command_line, program_environment
from fleet_core.contract.codec import decode_as
from fleet_core.contract.errors import ConfigError, Rejected
from fleet_core.contract.messages import Presence, ServiceStatus
from fleet_core.contract.topics import SERVICE_STATUS
from fleet_core.runtime.account import private_directory, server_account
from fleet_core.runtime.directory import Taken
from fleet_core.runtime.mqtt import Address, connect
from fleet_core.runtime.supervisor import Child, ChildFailed, Supervisor

ROLES = ("ingest", "presence", "operator")
ROLES_TIMEOUT_S = 60.0
PORT_PATIENCE_S = 3.0
"""How long a port may stay taken: by the broker of a `fleet up` that was killed a moment ago."""
_POLL_INTERVAL_S = 0.05
_MIGRATION_TIMEOUT_S = 600.0
_OUTPUT_TIMEOUT_S = 30.0
_CLIENT_ID = "service.supervisor"
_TIE = "setpriv"

T = TypeVar("T")


class BrokerKind(StrEnum):
    """Which broker `fleet up` starts."""

    EMBEDDED = "embedded"
    MOSQUITTO = "mosquitto"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to run. An empty `database_url` means the embedded PostgreSQL."""

    directory: Path
    address: Address
    broker: BrokerKind
    roles: tuple[str, ...]
    environment: Mapping[str, str]
    database_url: str = ""


class Platform(msgspec.Struct, frozen=True, kw_only=True):
    """What runs."""

    supervisor: Supervisor
    plan: Plan
    database_url: str
    log_directory: Path


@contextlib.asynccontextmanager
async def running(
    plan: Plan, tell: Callable[[str], None] = lambda _sentence: None
) -> AsyncIterator[Platform]:
    """The whole platform, ready for work; leaving the block ends all of it. `tell` hears of every
    process that ended and was started again.

    Raises `Taken`, `ConfigError`, `ChildFailed` and `PostgresFailed`.
    """
    await _require_free(plan.address)
    log_directory = plan.directory / "logs"
    async with contextlib.AsyncExitStack() as ending, Supervisor(log_directory, tell) as supervisor:
        database_url = plan.database_url or await _start_database(
            supervisor, plan.directory, ending
        )
        environment = {
            **plan.environment,
            "FLEET_BROKER_URL": str(plan.address),
            "FLEET_DATABASE_URL": database_url,
        }
        await supervisor.run(_migration(environment))
        await supervisor.start(_broker(plan, environment))
        for role in plan.roles:
            await supervisor.start(_handler(role, environment))
        await supervisor.unless_failed(_all_online(supervisor, plan))
        yield Platform(
            supervisor=supervisor,
            plan=plan,
            database_url=database_url,
            log_directory=log_directory,
        )


async def _start_database(
    supervisor: Supervisor, directory: Path, ending: contextlib.AsyncExitStack
) -> str:
    """Start the embedded PostgreSQL; `ending` tidies up once the supervisor has stopped it."""
    from fleet_core.runtime.postgres import START_TIMEOUT_S, STOP_SIGNAL, STOP_TIMEOUT_S, Postgres

    postgres = Postgres(directory)
    ending.callback(postgres.release)
    await _whole(asyncio.to_thread(postgres.prepare))

    async def ready() -> bool:
        return postgres.is_ready()

    await supervisor.start(
        Child(
            name="postgresql",
            command=tied(STOP_SIGNAL, postgres.command),
            environment=postgres.environment,
            ready=ready,
            start_timeout_s=START_TIMEOUT_S,
            stop_signal=STOP_SIGNAL,
            stop_timeout_s=STOP_TIMEOUT_S,
            account=postgres.account,
        )
    )
    return postgres.url()


def _broker(plan: Plan, environment: Mapping[str, str]) -> Child:
    async def ready() -> bool:
        return await _accepts(plan.address)

    address = ("--host", plan.address.host, "--port", str(plan.address.port))
    if plan.broker is BrokerKind.EMBEDDED:
        child = program("broker", environment, *address, "--exit-with-parent")
        return msgspec.structs.replace(child, ready=ready)
    mosquitto = shutil.which("mosquitto", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if mosquitto is None:
        raise ConfigError("mosquitto is not installed; on Debian: apt-get install mosquitto")
    account = server_account()
    state = private_directory(plan.directory / "mosquitto", account)
    configuration = state / "mosquitto.conf"
    configuration.write_text(
        program_output("broker.mosquitto", *address, "--directory", str(state))
    )
    configuration.chmod(0o644)
    return Child(
        name="mosquitto",
        command=tied(signal.SIGTERM, (mosquitto, "-c", str(configuration))),
        environment=environment,
        ready=ready,
        account=account,
    )


def _migration(environment: Mapping[str, str]) -> Child:
    child = program("handlers", environment, "migrate")
    return msgspec.structs.replace(child, name="migrate", start_timeout_s=_MIGRATION_TIMEOUT_S)


def _handler(role: str, environment: Mapping[str, str]) -> Child:
    child = program("handlers", environment, "run", role, "--exit-with-parent")
    return msgspec.structs.replace(child, name=role)


def program(module: str, environment: Mapping[str, str], *arguments: str) -> Child:
    """A program of this project, named like its module."""
    return Child(
        name=module,
        command=tuple(command_line(module, arguments)),
        environment=program_environment(environment),
    )


def program_output(module: str, *arguments: str) -> str:
    """What a program of this project prints; never nothing. Raises `ConfigError`."""
    try:
        printed = subprocess.run(
            command_line(module, arguments),
            env=program_environment(os.environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            text=True,
            timeout=_OUTPUT_TIMEOUT_S,
        ).stdout
    except subprocess.CalledProcessError as error:
        raise ConfigError(f"{module}: {error.stderr.strip()}") from error
    if not printed:
        raise ConfigError(f"{module} printed nothing")
    return printed


def tied(number: signal.Signals, command: tuple[str, ...]) -> tuple[str, ...]:
    """The command so that the kernel sends it `number` when this process ends, where possible."""
    tie = shutil.which(_TIE) if sys.platform == "linux" else None
    return command if tie is None else (tie, "--pdeathsig", number.name[3:], "--", *command)


async def _require_free(address: Address) -> None:
    """Raise `Taken` unless a broker can listen on `address`, now or in a moment."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + PORT_PATIENCE_S
    while not _is_free(address):
        if loop.time() >= deadline_s:
            raise Taken(
                f"port {address.port} of {address.host} is taken by another program",
                "stop that one, or choose another port with --port",
            )
        await asyncio.sleep(_POLL_INTERVAL_S)


def _is_free(address: Address) -> bool:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.host, address.port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise ConfigError(f"nobody may listen on {address}: {error.strerror}") from error
    return True


async def _accepts(address: Address) -> bool:
    try:
        _, writer = await asyncio.open_connection(address.host, address.port)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


async def _all_online(supervisor: Supervisor, plan: Plan) -> None:
    """Wait for the birth of every role. Raises `ChildFailed` when one takes too long."""
    missing = set(plan.roles)
    try:
        async with (
            asyncio.timeout(ROLES_TIMEOUT_S),
            connect(plan.address, _CLIENT_ID, clean_session=True) as connection,
        ):
            await connection.subscribe([(SERVICE_STATUS.filter(), 1)])
            while missing:
                for delivery in await connection.receive(64):
                    missing -= _online_role(delivery.payload, supervisor.pids())
                    connection.acknowledge((delivery,))
    except TimeoutError:
        why = f"did not say that it is online within {ROLES_TIMEOUT_S:g} s"
        raise ChildFailed(min(missing), why, "") from None


def _online_role(payload: bytes, pids: Mapping[str, int]) -> set[str]:
    """The role a service status announces, if it is one of the processes started here."""
    try:
        status = decode_as(ServiceStatus, payload)
    except Rejected:
        return set()
    ours = status.state is Presence.ONLINE and pids.get(status.role) == status.pid
    return {status.role} if ours else set()


async def _whole(work: Coroutine[Any, Any, T]) -> T:
    """Do `work` to its end even when cancelled: a thread can't be interrupted, and what it makes
    has to be there when it is cleaned up."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,))
        raise
