"""The outbox: publications that were decided in a transaction and must not be lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fleet_core.contract.publication import Publication
from fleet_core.registry.noun import Noun

_LOCK_ID = 0x6F7574626F78  # "outbox"


class Outbox(Noun):
    """Reads and writes `outbox`."""

    sql_file = "outbox"

    async def insert(self, publications: Sequence[Publication]) -> None:
        """Owe these publications, in this order."""
        if not publications:
            return
        await self._execute(
            "insert",
            {
                "topics": [p.topic for p in publications],
                "payloads": [p.payload for p in publications],
                "qoss": [p.qos for p in publications],
                "retains": [p.retain for p in publications],
            },
        )

    async def claim(self, limit: int) -> tuple[list[int], list[Publication]]:
        """The oldest publications owed, if nobody else is draining; theirs until the transaction
        ends. One drains at a time, so that two versions of a document can't change places."""
        held = await self._row("lock", {"lock_id": _LOCK_ID})
        if not held or not held["held"]:
            return [], []
        rows = await self._rows("claim", {"limit": limit})
        return [row["id"] for row in rows], [_publication(row) for row in rows]

    async def delete(self, ids: Sequence[int]) -> None:
        """These were published and confirmed."""
        await self._execute("delete", {"ids": list(ids)})


def _publication(row: dict[str, Any]) -> Publication:
    return Publication(row["topic"], bytes(row["payload"]), row["qos"], row["retain"])
