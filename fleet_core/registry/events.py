"""The event log of devices: what they said, and what the platform noticed about them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from fleet_core.contract import codec
from fleet_core.contract.messages import Event
from fleet_core.registry.noun import Noun
from fleet_core.rules.presence import PlatformEvent


class Record(msgspec.Struct, frozen=True, gc=False):
    """An event of a device with what the platform adds to it."""

    device_id: str
    boot_id: str
    received_at: datetime
    event: Event


class Events(Noun):
    """Reads and writes `device_events`."""

    sql_file = "events"

    async def insert(self, records: Sequence[Record]) -> int:
        """Store what devices reported; what is there is left alone. Returns how many were new."""
        if not records:
            return 0
        events = [record.event for record in records]
        return await self._execute(
            "insert",
            {
                "device_ids": [record.device_id for record in records],
                "ats": [event.at for event in events],
                "boot_ids": [record.boot_id for record in records],
                "seqs": [event.seq for event in events],
                "received_ats": [record.received_at for record in records],
                "kinds": [event.kind for event in events],
                "severities": [event.severity.value for event in events],
                "messages": [event.message for event in events],
                "datas": [codec.encode(event.data).decode() for event in events],
            },
        )

    async def insert_of_platform(self, events: Sequence[PlatformEvent]) -> None:
        """Store what the platform noticed."""
        if not events:
            return
        await self._execute(
            "insert_of_platform",
            {
                "device_ids": [event.device_id for event in events],
                "ats": [event.at for event in events],
                "kinds": [event.kind for event in events],
                "severities": [event.severity.value for event in events],
                "messages": [event.message for event in events],
                "datas": [codec.encode(event.data).decode() for event in events],
            },
        )

    async def page(
        self, device_id: str, *, kind: str, limit: int, offset: int
    ) -> list[dict[str, Any]]:
        """A page of a device's log, newest first."""
        parameters = {"device_id": device_id, "kind": kind, "limit": limit, "offset": offset}
        return await self._rows("page", parameters)

    async def count(self, device_id: str, *, kind: str) -> int:
        """How many events there are in all."""
        row = await self._row("count", {"device_id": device_id, "kind": kind})
        return int(row["total"]) if row else 0
