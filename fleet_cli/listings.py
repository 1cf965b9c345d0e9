"""The columns of each list: what people see of it, and the fields programs get."""

from __future__ import annotations

from fleet_cli.columns import Column, Listing, status_style
from fleet_cli.human import NOTHING, ago, count, percent, size, tag_list
from fleet_core.contract.messages import Severity
from fleet_core.contract.operations import DeadLetterRow, DeviceEvent, DeviceRow, ProcessRow

SEVERITY_STYLES = {
    Severity.WARNING: "yellow",
    Severity.ERROR: "red",
    Severity.CRITICAL: "bold red",
}
PROCESS_STYLES = {"online": "green", "late": "yellow", "offline": "red"}

DEVICES = Listing(
    fields=DeviceRow.__struct_fields__,
    name_field="device_id",
    empty="no device matches",
    columns=(
        Column("id", lambda row, _: row.device_id),
        Column("name", lambda row, _: row.name, flexible=True),
        Column("site", lambda row, _: row.site, flexible=True),
        Column("status", lambda row, _: row.status.value, style=status_style),
        Column("score", lambda row, _: count(row.score), "right", style=status_style),
        Column("cpu", lambda row, _: percent(row.cpu_percent), "right"),
        Column("ram", lambda row, _: percent(row.ram_percent), "right"),
        Column("disk", lambda row, _: percent(row.disk_percent), "right"),
        Column("conn", lambda row, _: f"{row.connectors_running}/{row.connectors_total}", "right"),
        Column("seen", lambda row, now: ago(row.last_seen_at, now)),
        Column("tags", lambda row, _: tag_list(row.tags), flexible=True),
    ),
)
DEVICE_EVENTS = Listing(
    fields=DeviceEvent.__struct_fields__,
    name_field="kind",
    empty="no event matches",
    columns=(
        Column("when", lambda row, now: ago(row.at, now)),
        Column(
            "severity",
            lambda row, _: row.severity.value,
            style=lambda row: SEVERITY_STYLES.get(row.severity, ""),
        ),
        Column("source", lambda row, _: row.source),
        Column("kind", lambda row, _: row.kind),
        Column("message", lambda row, _: row.message, flexible=True),
    ),
)
DEAD_LETTERS = Listing(
    fields=DeadLetterRow.__struct_fields__,
    name_field="id",
    empty="no dead letter matches",
    columns=(
        Column("id", lambda row, _: str(row.id), "right"),
        Column("when", lambda row, now: ago(row.received_at, now)),
        Column("reason", lambda row, _: row.reason),
        Column("size", lambda row, _: size(row.size_bytes), "right"),
        Column("topic", lambda row, _: row.topic, flexible=True),
        Column("detail", lambda row, _: row.detail, flexible=True),
    ),
)
PROCESSES = Listing(
    fields=ProcessRow.__struct_fields__,
    name_field="service",
    empty="no process has reported",
    columns=(
        Column("service", lambda row, _: row.service),
        Column("role", lambda row, _: row.role),
        Column(
            "state",
            lambda row, _: row.state,
            style=lambda row: PROCESS_STYLES.get(row.state, ""),
        ),
        Column("pid", lambda row, _: str(row.pid), "right"),
        Column("started", lambda row, now: ago(row.started_at, now)),
        Column("seen", lambda row, now: ago(row.last_seen_at, now)),
        Column("version", lambda row, _: row.version or NOTHING),
    ),
)
