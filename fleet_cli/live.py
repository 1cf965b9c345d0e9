"""The live view of a fleet: totals by status on top, then the devices, what needs eyes first.

Pure: the same devices and the same `now` give the same picture. `fleet device watch` and
`fleet demo` show it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.text import Text

from fleet_cli.columns import (
    STATUS_STYLES,
    Column,
    Listing,
    connectors,
    status_style,
    status_text,
)
from fleet_cli.cropping import middle
from fleet_cli.human import ago, count, percent
from fleet_cli.tables import listing_table
from fleet_core.contract.messages import DeviceHealth, LiveDevice

FRAME_LINES = 4
"""Lines of the view that are not devices: totals, a note or nothing, the header, the remainder."""
QUIET_WHEN_NONE = frozenset({DeviceHealth.UPDATING, DeviceHealth.UNSEEN})
"""Totals that may be left out when they are zero: the line has to fit sixty cells."""
_ORDER = {
    status: rank
    for rank, status in enumerate(
        (
            DeviceHealth.OFFLINE,
            DeviceHealth.WARNING,
            DeviceHealth.UPDATING,
            DeviceHealth.ONLINE,
            DeviceHealth.UNSEEN,
        )
    )
}
LIVE_DEVICES = Listing(
    fields=LiveDevice.__struct_fields__,
    name_field="device_id",
    empty="no device matches",
    columns=(
        Column("id", lambda row, _: row.device_id, least=16, crop=middle),
        Column("site", lambda row, _: row.site, least=6, drop=5),
        Column("status", lambda row, _: status_text(row), style=status_style),
        Column("score", lambda row, _: count(row.score), "right", style=status_style),
        Column("cpu", lambda row, _: percent(row.cpu_percent), "right", drop=4),
        Column("ram", lambda row, _: percent(row.ram_percent), "right", drop=3),
        Column("disk", lambda row, _: percent(row.disk_percent), "right", drop=2),
        Column("conn", connectors, "right", drop=1),
        Column("seen", lambda row, now: ago(row.last_heartbeat_at, now)),
    ),
)


def fleet_view(
    devices: Sequence[LiveDevice],
    now: datetime,
    *,
    max_rows: int | None = None,
    note: str = "",
) -> RenderableType:
    """The whole picture. `max_rows` is how many devices there is room for; None for all. `note` is
    a word about the picture itself."""
    ordered = sorted(devices, key=lambda device: (_ORDER[device.status], device.device_id))
    shown = ordered if max_rows is None else ordered[: max(0, max_rows)]
    parts: list[RenderableType] = [Totals(devices), Text(note, style="yellow")]
    if shown:
        parts.append(listing_table(LIVE_DEVICES, shown, now))
    if len(shown) < len(ordered):
        parts.append(Text(f"… and {len(ordered) - len(shown):,} more", style="dim"))
    return Group(*parts)


class Totals:
    """One line: how many devices, and how many of each status, what needs eyes first. In too
    little room the zeros of `QUIET_WHEN_NONE` are left out."""

    def __init__(self, devices: Sequence[LiveDevice]) -> None:
        self._devices = len(devices)
        self._by_status = Counter(device.status for device in devices)

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        """The line as wide as `options` allow."""
        whole = self._line(list(_ORDER))
        if whole.cell_len > options.max_width:
            told = [s for s in _ORDER if self._by_status[s] or s not in QUIET_WHEN_NONE]
            whole = self._line(told)
        yield whole

    def _line(self, statuses: Sequence[DeviceHealth]) -> Text:
        words = "device" if self._devices == 1 else "devices"
        line = Text(f"{self._devices:,} {words}", style="bold", no_wrap=True, overflow="ellipsis")
        for status in statuses:
            count_of = self._by_status[status]
            style = STATUS_STYLES[status] if count_of else "dim"
            line.append(f"  ● {count_of:,} {status.value}", style=f"not bold {style}")
        return line
