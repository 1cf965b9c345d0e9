"""What a list is made of: fields for programs, columns for people. Knows no way to draw them, so
that a list in JSON costs no import of rich.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal

import msgspec

from fleet_cli import cropping
from fleet_core.contract.messages import DeviceHealth

WARNING_BELOW_SCORE = 80
"""As the platform has it by default: with such a score a warning has another cause."""

STATUS_STYLES = {
    DeviceHealth.ONLINE: "green",
    DeviceHealth.WARNING: "yellow",
    DeviceHealth.OFFLINE: "red",
    DeviceHealth.UPDATING: "cyan",
    DeviceHealth.UNSEEN: "dim",
}


class Column(msgspec.Struct, frozen=True):
    """One column: `text` gives a row's cell, `style` its colour.

    Where there is no room, a column with `least` shrinks to so many cells, its texts shortened by
    `crop`; and those with `drop` are left out, the lowest number first. What has neither stays.
    """

    header: str
    text: Callable[[Any, datetime], str]
    justify: Literal["left", "right"] = "left"
    least: int | None = None
    crop: Callable[[str, int], str] = cropping.end
    drop: int | None = None
    style: Callable[[Any], str] | None = None


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of list; `empty` is what a terminal shows when there is nothing in it."""

    fields: tuple[str, ...]
    name_field: str
    columns: tuple[Column, ...]
    empty: str


def status_style(row: Any) -> str:
    """The colour of a row's `status`."""
    return STATUS_STYLES.get(row.status, "")


def status_text(row: Any) -> str:
    """A row's `status`; of a warning that its score does not explain, that the device is late."""
    late = row.status is DeviceHealth.WARNING and (
        row.score is None or row.score >= WARNING_BELOW_SCORE
    )
    return f"● {row.status.value}{' (late)' if late else ''}"


def connectors(row: Any, _: datetime) -> str:
    """How many of a row's connectors run."""
    return f"{row.connectors_running}/{row.connectors_total}"
