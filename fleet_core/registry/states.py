"""The present state of devices: one narrow row each, changed by every heartbeat."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

import msgspec
from psycopg.rows import tuple_row

from fleet_core.contract import codec
from fleet_core.contract.messages import DeviceHealth
from fleet_core.registry.arrays import booleans, numbers, reals, texts, times
from fleet_core.registry.noun import Noun
from fleet_core.rules import health
from fleet_core.rules.presence import DeviceState

_HEALTH = {status.value: status for status in DeviceHealth}


class Loaded(msgspec.Struct, frozen=True):
    """A state as it was when the transaction began, with what a live picture also shows."""

    state: DeviceState
    connectors_running: int
    connectors_total: int


class Swept(msgspec.Struct, frozen=True):
    """A device whose status a deadline changed."""

    device_id: str
    before: DeviceHealth
    after: DeviceHealth
    reason: str
    score: int | None


class States(Noun):
    """Reads and writes `device_state`."""

    sql_file = "states"

    async def lock(self, device_ids: Collection[str]) -> dict[str, Loaded]:
        """The states of those devices that are registered, locked until the transaction ends.

        Rows are locked in the order of their ids. A transaction that calls this more than once
        calls `Transaction.claim_devices` first, or two processes may wait for each other.
        """
        async with self._connection.cursor(row_factory=tuple_row) as cursor:
            await cursor.execute(self._statement("lock"), {"device_ids": sorted(device_ids)})
            return {row[0]: _loaded(row) for row in await cursor.fetchall()}

    async def save(self, states: Sequence[DeviceState]) -> None:
        """Write states that were locked in this transaction; the sample too where there is one."""
        with_sample = [state for state in states if state.sample is not None]
        without = [state for state in states if state.sample is None]
        if with_sample:
            await self._execute("save_samples", _columns(with_sample) | _samples(with_sample))
        if without:
            await self._execute("save", _columns(without))

    async def sweep(
        self, now: datetime, listening_since: datetime, limit: int = 10_000
    ) -> list[Swept]:
        """Apply deadlines that passed, for at most `limit` devices, in one statement."""
        rows = await self._rows(
            "sweep", {"now": now, "listening_since": listening_since, "limit": limit}
        )
        return [msgspec.convert(row, Swept) for row in rows]


def _loaded(row: tuple[Any, ...]) -> Loaded:
    (
        device_id, status, since, score, updating, boot_id, session, seq, interval_s, heartbeat_at,
        last_heartbeat_at, late_at, offline_at, will_recheck_at, ended_at, clock_skewed,
        connectors_running, connectors_total,
    ) = row  # fmt: skip
    state = DeviceState(
        device_id=device_id,
        status=_HEALTH[status],
        since=since,
        score=score,
        updating=updating,
        boot_id=boot_id.hex if boot_id else None,
        session=session,
        seq=seq,
        interval_s=interval_s,
        heartbeat_at=heartbeat_at,
        last_heartbeat_at=last_heartbeat_at,
        late_at=late_at,
        offline_at=offline_at,
        will_recheck_at=will_recheck_at,
        ended_at=ended_at,
        clock_skewed=clock_skewed,
    )
    return Loaded(state, connectors_running, connectors_total)


def _columns(states: Sequence[DeviceState]) -> dict[str, str]:
    return {
        "device_ids": texts([s.device_id for s in states]),
        "statuses": texts([s.status.value for s in states]),
        "sinces": times([s.since for s in states]),
        "scores": numbers([s.score for s in states]),
        "boot_ids": texts([s.boot_id for s in states]),
        "sessions": numbers([s.session for s in states]),
        "seqs": numbers([s.seq for s in states]),
        "intervals": numbers([s.interval_s for s in states]),
        "heartbeat_ats": times([s.heartbeat_at for s in states]),
        "last_heartbeat_ats": times([s.last_heartbeat_at for s in states]),
        "late_ats": times([s.late_at for s in states]),
        "offline_ats": times([s.offline_at for s in states]),
        "will_recheck_ats": times([s.will_recheck_at for s in states]),
        "ended_ats": times([s.ended_at for s in states]),
        "clock_skeweds": booleans([s.clock_skewed for s in states]),
    }


def _samples(states: Sequence[DeviceState]) -> dict[str, str]:
    beats = [s.sample for s in states if s.sample is not None]
    return {
        "cpu_percents": reals([b.metrics.cpu_percent for b in beats]),
        "ram_percents": reals([b.metrics.ram_percent for b in beats]),
        "disk_percents": reals([b.metrics.disk_percent for b in beats]),
        "connectors_runnings": numbers([health.running(b.connectors) for b in beats]),
        "connectors_totals": numbers([len(b.connectors) for b in beats]),
        "metrics": texts([codec.encode(b.metrics).decode() for b in beats]),
        "connectors": texts([codec.encode(b.connectors).decode() for b in beats]),
    }
