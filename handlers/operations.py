"""What each operation of `contract/operations.py` does: load, shape, return.

An implementation raises `Refused` to answer with an error; what it wrote is then undone.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import msgspec

from fleet_core.contract import operations as contract
from fleet_core.contract.messages import DeviceHealth, ErrorBody, Presence
from fleet_core.contract.operations import ErrorCode
from fleet_core.contract.topics import Kind, is_valid_id
from fleet_core.registry.counters import DEAD_LETTERS, HEARTBEATS_STORED
from fleet_core.registry.store import Transaction
from fleet_core.runtime.routes import Context

TENANT = "default"
"""Operators get tenants together with their certificates; until then there is this one."""
LATE_AFTER_INTERVALS = 3
"""A process of the platform that is silent for so many of its own intervals is late."""


class Refused(Exception):
    """The request is answered with an error."""

    def __init__(self, code: ErrorCode, message: str, hint: str = "", **details: Any) -> None:
        super().__init__(message)
        self.body = ErrorBody(code=code.value, message=message, hint=hint, details=details)


async def device_register(
    params: contract.DeviceRegister, tx: Transaction, _context: Context
) -> contract.DeviceRegistered:
    """Add devices, all or none."""
    wanted = [device.device_id for device in params.devices]
    for device_id in wanted:
        if not is_valid_id(Kind.DEVICES, device_id):
            raise Refused(
                ErrorCode.USAGE,
                f"{device_id[:80]!r} is no device id",
                "2 to 63 of a-z, 0-9 and -, beginning with a letter or a digit",
            )
    if len(set(wanted)) < len(wanted):
        raise Refused(ErrorCode.USAGE, "an id stands twice in the request")
    new = await tx.devices.register(TENANT, params.devices)
    existing = sorted(set(wanted) - set(new))
    if existing and not params.skip_existing:
        raise Refused(ErrorCode.CONFLICT, f"{existing[0]} is registered already", existing=existing)
    await tx.live_changes.insert(new)
    return contract.DeviceRegistered(registered=new, existing=existing)


async def device_list(
    params: contract.DeviceList, tx: Transaction, _context: Context
) -> contract.DevicePage:
    """A page of devices."""
    rows = await tx.devices.page(TENANT, params)
    devices = [msgspec.convert(row, contract.DeviceRow) for row in rows]
    return contract.DevicePage(devices=devices, total=await tx.devices.count(TENANT, params))


async def device_show(
    params: contract.DeviceShow, tx: Transaction, _context: Context
) -> contract.DeviceDetail:
    """One device, whole."""
    row = await tx.devices.detail(TENANT, params.device_id)
    if row is None:
        raise _unknown(params.device_id)
    events = await tx.events.page(params.device_id, kind="", limit=params.events, offset=0)
    row["connectors"] = row["connectors"] or []
    row["boot_id"] = row["boot_id"].hex if row["boot_id"] else None
    return msgspec.convert({**row, "device": row, "events": events}, contract.DeviceDetail)


async def device_events(
    params: contract.DeviceEvents, tx: Transaction, _context: Context
) -> contract.DeviceEventPage:
    """A page of a device's event log."""
    if await tx.devices.detail(TENANT, params.device_id) is None:
        raise _unknown(params.device_id)
    rows = await tx.events.page(
        params.device_id, kind=params.kind, limit=params.limit, offset=params.offset
    )
    return contract.DeviceEventPage(
        events=[msgspec.convert(row, contract.DeviceEvent) for row in rows],
        total=await tx.events.count(params.device_id, kind=params.kind),
    )


async def fleet_status(
    _params: contract.FleetStatus, tx: Transaction, context: Context
) -> contract.FleetSummary:
    """The fleet at a glance."""
    rows = await tx.devices.summary(TENANT)
    totals = await tx.counters.totals()
    by_status = {status.value: 0 for status in DeviceHealth}
    by_status |= {row["status"]: row["devices"] for row in rows}
    seen = sum(row["seen"] for row in rows)
    stored, dead = totals.get(HEARTBEATS_STORED), totals.get(DEAD_LETTERS)
    return contract.FleetSummary(
        devices=sum(by_status.values()),
        by_status=by_status,
        health_percent=round(100 * by_status[DeviceHealth.ONLINE] / seen, 1) if seen else None,
        cpu=_usage(rows, "cpu"),
        ram=_usage(rows, "ram"),
        disk=_usage(rows, "disk"),
        heartbeats_stored=stored.value if stored else 0,
        dead_letters=dead.value if dead else 0,
        first_heartbeat_at=stored.first_at if stored else None,
        processes=[_process(row, context.clock()) for row in await tx.services.all()],
    )


async def dead_letters_list(
    params: contract.DeadLetterList, tx: Transaction, _context: Context
) -> contract.DeadLetterPage:
    """A page of what was refused."""
    rows = await tx.dead_letters.page(
        reason=params.reason, topic=params.topic, limit=params.limit, offset=params.offset
    )
    return contract.DeadLetterPage(
        dead_letters=[msgspec.convert(row, contract.DeadLetterRow) for row in rows],
        total=await tx.dead_letters.count(reason=params.reason, topic=params.topic),
    )


async def dead_letters_show(
    params: contract.DeadLetterShow, tx: Transaction, _context: Context
) -> contract.DeadLetterDetail:
    """One refused message with its payload."""
    row = await tx.dead_letters.get(params.id)
    if row is None:
        raise Refused(ErrorCode.NOT_FOUND, f"there is no dead letter {params.id}")
    payload = bytes(row.pop("payload"))
    return contract.DeadLetterDetail(
        dead_letter=msgspec.convert(row, contract.DeadLetterRow),
        payload_text=_text(payload),
        payload_base64=base64.b64encode(payload).decode(),
        truncated=len(payload) < row["size_bytes"],
    )


Implementation = Callable[[Any, Transaction, Context], Awaitable[contract.Result]]

IMPLEMENTATIONS: dict[str, Implementation] = {
    "device.register": device_register,
    "device.list": device_list,
    "device.show": device_show,
    "device.events": device_events,
    "fleet.status": fleet_status,
    "dead-letters.list": dead_letters_list,
    "dead-letters.show": dead_letters_show,
}


def _unknown(device_id: str) -> Refused:
    return Refused(ErrorCode.NOT_FOUND, f"there is no device {device_id[:80]!r}")


def _usage(rows: list[dict[str, Any]], name: str) -> contract.Usage:
    """Mean and peak over the statuses whose numbers are of now, weighted by their devices."""
    alive = [
        row
        for row in rows
        if row["status"] not in (DeviceHealth.OFFLINE, DeviceHealth.UNSEEN)
        and row[f"{name}_mean"] is not None
    ]
    if not alive:
        return contract.Usage(mean_percent=None, peak_percent=None)
    devices = sum(row["devices"] for row in alive)
    mean = sum(row[f"{name}_mean"] * row["devices"] for row in alive) / devices
    peak = max(row[f"{name}_peak"] for row in alive)
    return contract.Usage(mean_percent=round(mean, 1), peak_percent=round(peak, 1))


def _process(row: dict[str, Any], now: datetime) -> contract.ProcessRow:
    silent_s = (now - row["received_at"]).total_seconds()
    late = silent_s > LATE_AFTER_INTERVALS * row["interval_s"]
    state = "late" if late and row["state"] == Presence.ONLINE else row["state"]
    return contract.ProcessRow(
        service=row["service_id"],
        role=row["role"],
        instance=row["instance"],
        state=state,
        pid=row["pid"],
        started_at=row["started_at"],
        last_seen_at=row["received_at"],
        version=row["version"],
        counters=row["counters"],
    )


def _text(payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return ""
