"""What has outlived its retention leaves: whole chunks with TimescaleDB, rows without it."""

from __future__ import annotations

from datetime import datetime

from fleet_core.registry.noun import Noun

BATCH = 10_000
"""Rows one statement deletes, so that no transaction grows with the backlog."""
HISTORIES = ("heartbeats", "device_events")
TABLES = ("dead_letters", "operator_requests")


class Retention(Noun):
    """Deletes from histories and from the tables that only grow."""

    sql_file = "retention"

    async def expire(self, relation: str, before: datetime) -> int:
        """Delete one batch of what is older than `before`; 0 when there is nothing left.

        `relation` is one of `HISTORIES` or `TABLES`. A hypertable gives back chunks, not rows.
        """
        if relation in HISTORIES and await self._has_hypertables():
            row = await self._row("drop_chunks", {"relation": relation, "before": before})
            return int(row["dropped"]) if row else 0
        return await self._execute(f"delete_{relation}", {"before": before, "limit": BATCH})

    async def _has_hypertables(self) -> bool:
        row = await self._row("is_hypertable", {})
        return bool(row and row["is_hypertable"])
