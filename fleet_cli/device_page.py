"""Everything about one device, as a page for a terminal. Pure: the present is an argument."""

from __future__ import annotations

from datetime import datetime

from rich.console import Group, RenderableType

from fleet_cli.columns import Column, Listing, status_text
from fleet_cli.human import ago, count, duration, off_by, percent, size, tag_list
from fleet_cli.listings import DEVICE_EVENTS, skew_of
from fleet_cli.tables import facts, heading, listing_table
from fleet_core.contract.messages import Connector, ConnectorStatus, Metrics
from fleet_core.contract.operations import DeviceDetail

_CONNECTORS = Listing(
    fields=Connector.__struct_fields__,
    name_field="name",
    empty="",
    columns=(
        Column("connector", lambda row, _: row.name),
        Column("type", lambda row, _: row.type),
        Column(
            "status",
            lambda row, _: row.status.value,
            style=lambda row: "green" if row.status is ConnectorStatus.RUNNING else "red",
        ),
    ),
)


def device_page(detail: DeviceDetail, now: datetime) -> RenderableType:
    """Identity and state, metrics, connectors and the last events; empty parts are left out."""
    parts: list[RenderableType] = [facts(_identity(detail, now))]
    if detail.metrics is not None:
        parts += [heading("Metrics"), facts(_metrics(detail.metrics))]
    if detail.connectors:
        parts += [heading("Connectors"), listing_table(_CONNECTORS, detail.connectors, now)]
    if detail.events:
        parts += [heading("Last events"), listing_table(DEVICE_EVENTS, detail.events, now)]
    return Group(*parts)


def _identity(detail: DeviceDetail, now: datetime) -> list[tuple[str, str]]:
    device, info = detail.device, detail.info
    return [
        ("device", device.device_id),
        ("name", device.name),
        ("site", device.site),
        ("owner", detail.owner),
        ("tenant", detail.tenant),
        ("tags", tag_list(device.tags)),
        ("lifecycle", detail.lifecycle),
        ("registered", ago(detail.registered_at, now)),
        ("status", f"{status_text(device)}, since {duration(_age_s(device.since, now))}"),
        ("score", count(device.score)),
        ("last seen", ago(device.last_seen_at, now)),
        ("heartbeat every", duration(detail.interval_s) if detail.interval_s else ""),
        ("clock", _clock(detail)),
        ("hostname", info.hostname),
        ("addresses", " ".join(info.addresses)),
        ("system", " ".join(filter(None, (info.os, info.kernel, info.architecture)))),
        ("versions", " / ".join(filter(None, (info.agent_version, info.stack_version)))),
        ("boot", f"{detail.boot_id}, session {detail.session}" if detail.boot_id else ""),
    ]


def _clock(detail: DeviceDetail) -> str:
    """How far a wrong clock is off, as far as the events shown here tell."""
    if not detail.clock_skewed:
        return ""
    skews = (skew_of(event) for event in detail.events)
    skew_s = next((skew_s for skew_s in skews if skew_s is not None), None)
    return "wrong" if skew_s is None else off_by(skew_s)


def _metrics(metrics: Metrics) -> list[tuple[str, str]]:
    ram = _parts(metrics.ram_used_bytes, metrics.ram_total_bytes)
    disk = _parts(metrics.disk_used_bytes, metrics.disk_total_bytes)
    return [
        ("CPU", percent(metrics.cpu_percent) + _of(metrics.cpu_count, "cores")),
        ("RAM", percent(metrics.ram_percent) + ram),
        ("disk", percent(metrics.disk_percent) + disk),
        ("received", _rate(metrics.network_received_bytes_per_s)),
        ("sent", _rate(metrics.network_sent_bytes_per_s)),
        ("up for", duration(metrics.uptime_s) if metrics.uptime_s is not None else ""),
        *((name, f"{value:g}") for name, value in sorted(metrics.custom.items())),
    ]


def _age_s(moment: datetime, now: datetime) -> float:
    return max(0.0, (now - moment).total_seconds())


def _of(number: int | None, unit: str) -> str:
    return f" of {number} {unit}" if number else ""


def _parts(used_bytes: int | None, total_bytes: int | None) -> str:
    return f", {size(used_bytes)} of {size(total_bytes)}" if total_bytes else ""


def _rate(bytes_per_s: float | None) -> str:
    return "" if bytes_per_s is None else f"{size(int(bytes_per_s))}/s"
