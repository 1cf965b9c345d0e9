"""The history of heartbeats."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from fleet_core.contract import codec
from fleet_core.contract.messages import Heartbeat
from fleet_core.registry.arrays import numbers, reals, texts, times
from fleet_core.registry.noun import Noun
from fleet_core.rules import health


class Record(msgspec.Struct, frozen=True, gc=False):
    """A heartbeat with what the platform adds to it."""

    device_id: str
    received_at: datetime
    score: int
    heartbeat: Heartbeat


class Heartbeats(Noun):
    """Writes `heartbeats`."""

    sql_file = "heartbeats"

    async def insert(self, records: Sequence[Record]) -> int:
        """Store records; those already there are left alone. Returns how many were new."""
        if not records:
            return 0
        beats = [record.heartbeat for record in records]
        metrics = [beat.metrics for beat in beats]
        return await self._execute(
            "insert",
            {
                "device_ids": texts([record.device_id for record in records]),
                "ats": times([beat.at for beat in beats]),
                "boot_ids": texts([beat.boot_id for beat in beats]),
                "seqs": numbers([beat.seq for beat in beats]),
                "received_ats": times([record.received_at for record in records]),
                "scores": numbers([record.score for record in records]),
                "cpu_percents": reals([m.cpu_percent for m in metrics]),
                "ram_percents": reals([m.ram_percent for m in metrics]),
                "disk_percents": reals([m.disk_percent for m in metrics]),
                "network_receiveds": reals([m.network_received_bytes_per_s for m in metrics]),
                "network_sents": reals([m.network_sent_bytes_per_s for m in metrics]),
                "uptimes": numbers([m.uptime_s for m in metrics]),
                "connectors_runnings": numbers([health.running(b.connectors) for b in beats]),
                "connectors_totals": numbers([len(b.connectors) for b in beats]),
                "customs": texts(
                    [codec.encode(m.custom).decode() if m.custom else None for m in metrics]
                ),
            },
        )
