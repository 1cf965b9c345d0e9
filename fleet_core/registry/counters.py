"""Totals that would take a scan to find out."""

from __future__ import annotations

from datetime import datetime

import msgspec

from fleet_core.registry.noun import Noun

HEARTBEATS_STORED = "heartbeats_stored"
DEAD_LETTERS = "dead_letters"


class Total(msgspec.Struct, frozen=True):
    """A sum over all processes, and when the first of them counted anything."""

    value: int
    first_at: datetime


class Counters(Noun):
    """Reads and writes `counters`."""

    sql_file = "counters"

    async def add(self, name: str, instance: str, value: int, now: datetime) -> None:
        """Add `value` to the part of `name` that `instance` keeps."""
        if value:
            parameters = {"name": name, "instance": instance, "value": value, "now": now}
            await self._execute("add", parameters)

    async def totals(self) -> dict[str, Total]:
        """Every counter by name."""
        rows = await self._rows("totals", {})
        return {row["name"]: Total(row["value"], row["first_at"]) for row in rows}
