"""`fleet status`: the fleet at a glance."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from fleet_cli.asking import Target, ask
from fleet_cli.human import ago, count, percent
from fleet_cli.options import (
    DEFAULT_OPERATOR,
    DEFAULT_TIMEOUT_S,
    DEFAULT_URL,
    BrokerUrl,
    OperatorName,
    Output,
    TimeoutSeconds,
)
from fleet_cli.output import resolve, write_document
from fleet_core.contract.messages import DeviceHealth
from fleet_core.contract.operations import FleetStatus, FleetSummary, Usage
from fleet_core.runtime.clock import now_utc

if TYPE_CHECKING:
    from rich.console import RenderableType


def status(
    *,
    url: BrokerUrl = DEFAULT_URL,
    operator: OperatorName = DEFAULT_OPERATOR,
    timeout: TimeoutSeconds = DEFAULT_TIMEOUT_S,
    output: Output = None,
) -> None:
    """Show the fleet at a glance: totals, health, usage and the platform's processes."""
    summary: FleetSummary = ask(Target(url, operator, timeout), "fleet.status", FleetStatus())
    write_document(
        summary,
        resolve(output),
        names=[process.service for process in summary.processes],
        table=lambda: status_page(summary, now_utc()),
    )


def status_page(summary: FleetSummary, now: datetime) -> RenderableType:
    """The summary for people. Pure: the present is an argument."""
    from rich.console import Group

    from fleet_cli.listings import PROCESSES
    from fleet_cli.tables import facts, heading, listing_table

    parts: list[Any] = [facts(_facts(summary, now))]
    if summary.processes:
        parts += [heading("Processes"), listing_table(PROCESSES, summary.processes, now)]
    return Group(*parts)


def _facts(summary: FleetSummary, now: datetime) -> list[tuple[str, str]]:
    known = [word.value for word in DeviceHealth]
    words = [*known, *sorted(set(summary.by_status) - set(known))]
    return [
        ("devices", count(summary.devices)),
        *((f"  {word}", count(summary.by_status.get(word, 0))) for word in words),
        ("health", percent(summary.health_percent)),
        ("CPU", _usage(summary.cpu)),
        ("RAM", _usage(summary.ram)),
        ("disk", _usage(summary.disk)),
        ("heartbeats stored", count(summary.heartbeats_stored)),
        ("dead letters", count(summary.dead_letters)),
        ("first heartbeat", ago(summary.first_heartbeat_at, now)),
    ]


def _usage(usage: Usage) -> str:
    return f"mean {percent(usage.mean_percent)}, peak {percent(usage.peak_percent)}"
