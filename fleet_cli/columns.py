"""What a list is made of: fields for programs, columns for people. Knows no way to draw them, so
that a list in JSON costs no import of rich.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal

import msgspec

from fleet_core.contract.messages import DeviceHealth

STATUS_STYLES = {
    DeviceHealth.ONLINE: "green",
    DeviceHealth.WARNING: "yellow",
    DeviceHealth.OFFLINE: "red",
    DeviceHealth.UPDATING: "cyan",
    DeviceHealth.UNSEEN: "dim",
}


class Column(msgspec.Struct, frozen=True):
    """One column: `text` gives a row's cell, `style` its colour; flexible ones shrink first."""

    header: str
    text: Callable[[Any, datetime], str]
    justify: Literal["left", "right"] = "left"
    flexible: bool = False
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
