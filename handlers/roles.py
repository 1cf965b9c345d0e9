"""The table of routes: every topic that somebody says to the platform, and who hears it.

Roles partition the topics; `tests/unit/handlers/test_roles.py` asserts it.
"""

from __future__ import annotations

from fleet_core.contract import topics
from fleet_core.runtime.drains import drain_live_changes, drain_outbox
from fleet_core.runtime.roles import Role, Tick
from fleet_core.runtime.routes import Route
from handlers import events, heartbeat, presence, requests, service_status, status

INGEST = Role(
    name="ingest",
    hears_devices=True,
    routes=(
        Route(topics.DEVICE_STATUS, handle_batch=status.handle),
        Route(topics.DEVICE_HEARTBEAT, handle_batch=heartbeat.handle),
        Route(topics.DEVICE_EVENTS, handle_batch=events.handle),
    ),
)
PRESENCE = Role(
    name="presence",
    routes=(Route(topics.SERVICE_STATUS, handle=service_status.handle),),
    ticks=(
        Tick("sweep", lambda settings: settings.presence.sweep_interval_s, presence.sweep),
        Tick("expire", lambda settings: settings.retention.interval_s, presence.expire),
    ),
    drains=(drain_outbox, drain_live_changes),
    on_connect=presence.announce_all,
)
OPERATOR = Role(
    name="operator",
    routes=(Route(topics.OPERATOR_REQUESTS, handle=requests.handle, apologise=requests.apologise),),
)

ROLES: dict[str, Role] = {role.name: role for role in (INGEST, PRESENCE, OPERATOR)}
