"""`python -m handlers run ROLE…` and `python -m handlers migrate`.

`run` carries one or more roles in one process until SIGTERM or SIGINT. The configuration comes from
`config/default.toml`, a file and the environment (`fleet_core/runtime/config.py`).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict

from fleet_core.contract.errors import ConfigError, Unavailable
from fleet_core.registry.migrate import migrate
from fleet_core.registry.store import open_registry
from fleet_core.rules.health import Band, Thresholds
from fleet_core.rules.plausible import Window
from fleet_core.rules.presence import Policy
from fleet_core.runtime import config, logs
from fleet_core.runtime.clock import now_utc
from fleet_core.runtime.config import Settings
from fleet_core.runtime.event_loop import run_event_loop
from fleet_core.runtime.mqtt import Address
from fleet_core.runtime.parent import end_with_parent
from fleet_core.runtime.routes import Context
from fleet_core.runtime.service import Service
from handlers.roles import ROLES

EXIT_USAGE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        settings = _settings(options.config)
        process = "+".join(getattr(options, "roles", [options.command]))
        logs.configure(level=settings.log.level, style=settings.log.format, process=process)
        if options.command == "migrate":
            asyncio.run(migrate(settings.database.url))
            return 0
        if options.exit_with_parent:
            end_with_parent()
        instance = f"-{options.instance}" if options.instance else ""
        run_event_loop(_run(options.roles, instance, settings))
    except (ConfigError, Unavailable) as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_USAGE if isinstance(error, ConfigError) else 1
    return 0


def _settings(file: Path | None) -> Settings:
    settings = config.load(os.environ, file)
    if not settings.database.url:
        raise ConfigError("database: url is empty (set FLEET_DATABASE_URL, or use `fleet up`)")
    try:
        conninfo_to_dict(settings.database.url)
    except psycopg.ProgrammingError as error:
        raise ConfigError(f"database: url can't be read: {str(error).strip()}") from error
    Address.parse(settings.broker.url)
    return settings


def context_of(settings: Settings, instance: str) -> Context:
    """What handlers may know, read once from the configuration."""
    presence, health = settings.presence, settings.health
    return Context(
        instance=instance,
        clock=now_utc,
        presence=Policy(
            strict=presence.policy == "strict",
            late_after_intervals=presence.late_after_intervals,
            offline_after_intervals=presence.offline_after_intervals,
            will_recheck_s=presence.will_recheck_s,
            clock_skew_limit_s=presence.clock_skew_limit_s,
            warning_below_score=health.warning_below_score,
        ),
        health=Thresholds(
            **{
                name: Band(
                    *(
                        getattr(health, f"{name}_{key}")
                        for key in (
                            "middle_percent",
                            "above_percent",
                            "middle_penalty",
                            "above_penalty",
                        )
                    )
                )
                for name in ("cpu", "ram", "disk")
            },
            connectors_penalty=health.connectors_penalty,
        ),
        window=Window(settings.history.past_limit_days, settings.history.future_limit_s),
    )


async def _run(roles: Sequence[str], instance: str, settings: Settings) -> None:
    database = settings.database
    async with open_registry(
        database.url,
        pool_size=database.pool_size,
        statement_timeout_s=database.statement_timeout_s,
    ) as registry:
        services = [
            Service(ROLES[name], registry, context_of(settings, name + instance), settings)
            for name in dict.fromkeys(roles)
        ]
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _stop, services)
        async with asyncio.TaskGroup() as group:
            for service in services:
                group.create_task(service.run())


def _stop(services: Sequence[Service]) -> None:
    for service in services:
        service.stop.set()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="handlers", description=__doc__)
    parser.add_argument("--config", type=Path, help="a TOML file over the defaults")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="carry roles until told to stop")
    run.add_argument("roles", nargs="+", choices=sorted(ROLES), metavar="ROLE")
    run.add_argument(
        "--instance",
        default="",
        help="tells processes of one role apart: service.ingest-<instance>",
    )
    run.add_argument("--exit-with-parent", action="store_true")
    commands.add_parser("migrate", help="bring the database up to date")
    return parser


if __name__ == "__main__":
    sys.exit(main())
