"""Which devices' live pictures are out of date (docs/adr/0005)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from fleet_core.registry.noun import Noun

_LOCK_ID = 0x6C697665  # "live"


class LiveChanges(Noun):
    """Reads and writes `live_changes`."""

    sql_file = "live_changes"

    async def insert(self, device_ids: Collection[str]) -> None:
        """The pictures of these devices are out of date."""
        if device_ids:
            await self._execute("insert", {"device_ids": sorted(device_ids)})

    async def insert_all(self) -> None:
        """Every picture may be out of date: a broker can forget what it retained."""
        await self._execute("insert_all", {})

    async def claim(self, limit: int) -> tuple[list[int], set[str]]:
        """The oldest entries, if nobody else is publishing, and the devices they name."""
        held = await self._row("lock", {"lock_id": _LOCK_ID})
        if not held or not held["held"]:
            return [], set()
        rows = await self._rows("claim", {"limit": limit})
        return [row["id"] for row in rows], {row["device_id"] for row in rows}

    async def delete(self, ids: Sequence[int]) -> None:
        """These were published and confirmed."""
        await self._execute("delete", {"ids": list(ids)})
