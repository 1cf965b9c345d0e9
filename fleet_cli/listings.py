"""The columns of each list: what people see of it, and the fields programs get."""

from __future__ import annotations

from datetime import datetime

from fleet_cli.columns import Column, Listing, connectors, status_style, status_text
from fleet_cli.cropping import middle, topic
from fleet_cli.human import NOTHING, ago, count, off_by, percent, size, tag_list
from fleet_core.contract.messages import Severity
from fleet_core.contract.operations import DeadLetterRow, DeviceEvent, DeviceRow, ProcessRow
from fleet_core.rules.presence import SKEW_EVENT

SEVERITY_STYLES = {
    Severity.WARNING: "yellow",
    Severity.ERROR: "red",
    Severity.CRITICAL: "bold red",
}
PROCESS_STYLES = {"online": "green", "late": "yellow", "offline": "red"}


def _event_message(event: DeviceEvent, _: datetime) -> str:
    """What the platform says, with the lengths of time as people read them."""
    skew_s = skew_of(event)
    return event.message if skew_s is None else f"the device's clock is {off_by(skew_s)}"


def skew_of(event: DeviceEvent) -> float | None:
    """Seconds a clock was off, if the event says that it was."""
    skew_s = event.data.get("skew_s")
    skewed = event.kind == SKEW_EVENT and event.data.get("skewed") is True
    return float(skew_s) if skewed and isinstance(skew_s, int | float) else None


DEVICES = Listing(
    fields=DeviceRow.__struct_fields__,
    name_field="device_id",
    empty="no device matches",
    columns=(
        Column("id", lambda row, _: row.device_id, least=16, crop=middle),
        Column("name", lambda row, _: row.name, least=10, drop=7),
        Column("site", lambda row, _: row.site, least=6, drop=6),
        Column("status", lambda row, _: status_text(row), style=status_style),
        Column("score", lambda row, _: count(row.score), "right", style=status_style),
        Column("cpu", lambda row, _: percent(row.cpu_percent), "right", drop=5),
        Column("ram", lambda row, _: percent(row.ram_percent), "right", drop=4),
        Column("disk", lambda row, _: percent(row.disk_percent), "right", drop=3),
        Column("conn", connectors, "right", drop=2),
        Column("seen", lambda row, now: ago(row.last_seen_at, now)),
        Column("tags", lambda row, _: tag_list(row.tags), least=10, drop=1),
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
        Column("source", lambda row, _: row.source, drop=1),
        Column("kind", lambda row, _: row.kind),
        Column("message", _event_message, least=24),
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
        Column("size", lambda row, _: size(row.size_bytes), "right", drop=1),
        Column("topic", lambda row, _: row.topic, least=32, crop=topic),
        Column("detail", lambda row, _: row.detail, least=12, drop=2),
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
