"""`fleet up`: the whole platform on this machine, until told to stop.

What is kept lies in one data directory, which one process at a time owns. Being stopped by a signal
is how it ends well: exit code 0. Everything it says is on stderr.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from fleet_cli.errors import CommandFailed, UsageFailed
from fleet_cli.formats import OutputFormat
from fleet_cli.output import say
from fleet_cli.processes import ROLES, BrokerKind, Plan, Platform, running
from fleet_core.contract.errors import ConfigError, Unavailable
from fleet_core.rules.loopback import require_loopback
from fleet_core.runtime.config import load
from fleet_core.runtime.directory import Taken, default_directory, owned
from fleet_core.runtime.mqtt import Address
from fleet_core.runtime.supervisor import ChildFailed, Interrupted, until_signalled

DataDirectory = Annotated[
    Path | None,
    typer.Option("--data-dir", envvar="FLEET_DATA_DIRECTORY", help="Where everything is kept."),
]
BrokerOption = Annotated[BrokerKind, typer.Option("--broker", help="The broker to start.")]


def up(
    *,
    data_dir: DataDirectory = None,
    port: Annotated[
        int | None, typer.Option("--port", min=1, max=65535, help="The broker's port.")
    ] = None,
    broker: BrokerOption = BrokerKind.EMBEDDED,
    handlers: Annotated[
        str, typer.Option("--handlers", metavar="ROLE,…", help="The handler roles to run.")
    ] = ",".join(ROLES),
    config: Annotated[
        Path | None,
        typer.Option("--config", envvar="FLEET_CONFIG", help="A TOML file over the defaults."),
    ] = None,
) -> None:
    """Start the platform: database, broker and handlers. Ctrl-C stops it."""
    with explained():
        settings = load(os.environ, config)
        configured = Address.parse(settings.broker.url)
        plan = Plan(
            directory=data_dir or default_directory(os.environ),
            address=Address(configured.host, port or configured.port),
            broker=broker,
            roles=read_roles(handlers),
            environment=child_environment(config),
            database_url=settings.database.url,
        )
        require_loopback(plan.address.host)
        if settings.ingest.shared and broker is BrokerKind.EMBEDDED:
            raise ConfigError("ingest: shared needs Mosquitto or EMQX (--broker mosquitto)")
        with contextlib.suppress(Interrupted):
            asyncio.run(until_signalled(_up(plan)))
        tell("stopped")


def read_roles(text: str) -> tuple[str, ...]:
    """The roles of a list with commas. Raises `UsageFailed` for one that does not exist.

    >>> read_roles("presence, ingest")
    ('presence', 'ingest')
    """
    roles = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    unknown = sorted(set(roles) - set(ROLES))
    if unknown or not roles:
        raise UsageFailed(f"{text[:80]!r} names no roles", f"there are {', '.join(ROLES)}")
    return roles


def child_environment(config: Path | None) -> dict[str, str]:
    """What the processes of the platform inherit: ours, with paths that hold anywhere."""
    chosen = {"FLEET_CONFIG": str(config.resolve())} if config else {}
    return {**os.environ, **chosen}


def tell(sentence: str) -> None:
    """A line on stderr, for people."""
    say(sentence, OutputFormat.TABLE)


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """What a platform can end with, as the error an operator reads."""
    try:
        yield
    except Taken as error:
        raise CommandFailed("conflict", error.what, error.hint) from error
    except ChildFailed as error:
        raise CommandFailed(
            "internal",
            str(error),
            f"the whole story is in logs/{error.name}.log of the data directory",
            {"process": error.name},
        ) from error
    except ConfigError as error:
        raise UsageFailed(str(error)) from error
    except Unavailable as error:
        raise CommandFailed("internal", str(error)) from error


async def _up(plan: Plan) -> None:
    began_s = asyncio.get_running_loop().time()
    with owned(plan.directory):
        async with running(plan, tell) as platform:
            took_s = asyncio.get_running_loop().time() - began_s
            for line in _welcome(platform, took_s):
                tell(line)
            try:
                await platform.supervisor.forever()
            finally:
                tell("stopping …")


def _welcome(platform: Platform, took_s: float) -> list[str]:
    plan = platform.plan
    database = platform.database_url if not plan.database_url else "as FLEET_DATABASE_URL says"
    only_here = "this machine only, because clients don't prove who they are yet"
    return [
        f"broker     {plan.address} ({plan.broker.value}; {only_here})",
        f"handlers   {', '.join(plan.roles)}",
        f"database   {database}",
        f"data       {plan.directory} (logs in {platform.log_directory})",
        f"ready after {took_s:.1f} s; Ctrl-C stops it",
    ]
