"""The platform's own processes, and since when devices are being heard."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fleet_core.contract import codec
from fleet_core.contract.messages import ServiceStatus
from fleet_core.registry.noun import Noun


class Services(Noun):
    """Reads and writes `services` and `listeners`."""

    sql_file = "services"

    async def save(self, service_id: str, status: ServiceStatus, received_at: datetime) -> None:
        """Keep what a process says of itself; its retained topic holds the last word."""
        await self._execute(
            "save",
            {
                "service_id": service_id,
                "role": status.role,
                "instance": status.instance,
                "state": status.state.value,
                "reason": status.reason,
                "pid": status.pid,
                "version": status.version,
                "interval_s": status.interval_s,
                "started_at": status.started_at,
                "at": status.at,
                "received_at": received_at,
                "counters": codec.encode(status.counters).decode(),
            },
        )

    async def all(self) -> list[dict[str, Any]]:
        """Every process that ever spoke, by id."""
        return await self._rows("all", {})

    async def listening(self, instance: str, since: datetime, now: datetime) -> None:
        """The ingest process `instance` hears devices without a gap since `since`."""
        await self._execute(
            "listening", {"instance": instance, "listening_since": since, "now": now}
        )

    async def listening_since(self, now: datetime, fresh_s: float) -> datetime | None:
        """Since when somebody hears devices without a gap; `None` while nobody does."""
        row = await self._row("listening_since", {"now": now, "fresh_s": fresh_s})
        return row["since"] if row else None
