"""The liveness sweep: silence becomes lateness, lateness becomes absence."""

from __future__ import annotations

from datetime import timedelta

from fleet_core.registry.store import Registry
from fleet_core.rules.presence import transition
from fleet_core.runtime.config import Settings
from fleet_core.runtime.hearing import FRESH_S
from fleet_core.runtime.routes import Context

SWEEP_LIMIT = 10_000
"""Devices one transaction changes, so that a whole fleet going silent stays bounded."""


async def sweep(registry: Registry, context: Context, _settings: Settings) -> None:
    """Apply the deadlines that passed, while somebody listens. The statement is one, whatever the
    size of the fleet; it is repeated only while it changes as many devices as it may."""
    while await _sweep_once(registry, context) == SWEEP_LIMIT:
        pass


async def _sweep_once(registry: Registry, context: Context) -> int:
    now = context.clock()
    async with registry.transaction() as tx:
        listening_since = await tx.services.listening_since(now, FRESH_S)
        if listening_since is None:
            return 0
        swept = await tx.states.sweep(now, listening_since, SWEEP_LIMIT)
        await tx.events.insert_of_platform(
            [transition(s.device_id, s.before, s.after, now, s.reason, s.score) for s in swept]
        )
        await tx.live_changes.insert([s.device_id for s in swept])
    return len(swept)


async def expire(registry: Registry, context: Context, settings: Settings) -> None:
    """Delete what has outlived its retention, a batch at a time."""
    retention, now = settings.retention, context.clock()
    for relation, days in (
        ("heartbeats", retention.heartbeats_days),
        ("device_events", retention.events_days),
        ("dead_letters", retention.dead_letters_days),
        ("operator_requests", retention.requests_days),
    ):
        deleted = 1
        while deleted:
            async with registry.transaction() as tx:
                deleted = await tx.retention.expire(relation, now - timedelta(days=days))


async def announce_all(registry: Registry) -> None:
    """Have every live picture published anew: a broker may have forgotten what it retained."""
    async with registry.transaction() as tx:
        await tx.live_changes.insert_all()
