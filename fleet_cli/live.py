"""The live view of a fleet: totals by status on top, then the devices, what needs eyes first.

Pure: the same devices and the same `now` give the same picture. `fleet device watch` and
`fleet demo` show it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.text import Text

from fleet_cli.columns import STATUS_STYLES, Column, Listing, status_style
from fleet_cli.human import ago, count, percent
from fleet_cli.tables import listing_table
from fleet_core.contract.messages import DeviceHealth, LiveDevice

FRAME_LINES = 4
"""Lines of the view that are not devices: totals, an empty line, the header, the remainder."""
_ORDER = {
    status: rank
    for rank, status in enumerate(
        (
            DeviceHealth.OFFLINE,
            DeviceHealth.WARNING,
            DeviceHealth.UPDATING,
            DeviceHealth.UNSEEN,
            DeviceHealth.ONLINE,
        )
    )
}
LIVE_DEVICES = Listing(
    fields=LiveDevice.__struct_fields__,
    name_field="device_id",
    empty="no device matches",
    columns=(
        Column("id", lambda row, _: row.device_id),
        Column("status", lambda row, _: f"● {row.status.value}", style=status_style),
        Column("site", lambda row, _: row.site, flexible=True),
        Column("score", lambda row, _: count(row.score), "right", style=status_style),
        Column("cpu", lambda row, _: percent(row.cpu_percent), "right"),
        Column("ram", lambda row, _: percent(row.ram_percent), "right"),
        Column("disk", lambda row, _: percent(row.disk_percent), "right"),
        Column("conn", lambda row, _: f"{row.connectors_running}/{row.connectors_total}", "right"),
        Column("last seen", lambda row, now: ago(row.last_heartbeat_at, now)),
    ),
)


def fleet_view(
    devices: Sequence[LiveDevice], now: datetime, *, max_rows: int | None = None
) -> RenderableType:
    """The whole picture. `max_rows` is how many devices there is room for; None for all."""
    ordered = sorted(devices, key=lambda device: (_ORDER[device.status], device.device_id))
    shown = ordered if max_rows is None else ordered[: max(0, max_rows)]
    parts: list[RenderableType] = [totals(devices), Text()]
    if shown:
        parts.append(listing_table(LIVE_DEVICES, shown, now))
    if len(shown) < len(ordered):
        parts.append(Text(f"… and {len(ordered) - len(shown):,} more", style="dim"))
    return Group(*parts)


def totals(devices: Sequence[LiveDevice]) -> Text:
    """One line: how many devices, and how many of each status."""
    by_status = Counter(device.status for device in devices)
    words = "device" if len(devices) == 1 else "devices"
    line = Text(f"{len(devices):,} {words}", style="bold", no_wrap=True, overflow="ellipsis")
    for status in DeviceHealth:
        style = STATUS_STYLES[status] if by_status[status] else "dim"
        line.append(f"   ● {by_status[status]:,} {status.value}", style=f"not bold {style}")
    return line
