"""The live state of a tenant's devices, as the platform publishes it.

- Retained messages come first and are the present; what follows are the changes.
- An empty payload means that the device has left.
- What does not parse, or claims to be another device than its topic says, is ignored: anybody
  may have left it, and brokers are known to deliver what was not asked for.
- Nothing is acknowledged before the consumer took it: the broker's window is the bound.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence

import msgspec

from fleet_cli.errors import BrokerUnreachable, CommandFailed
from fleet_core.contract.codec import decode
from fleet_core.contract.errors import Rejected
from fleet_core.contract.messages import LiveDevice
from fleet_core.contract.operations import DeviceRow
from fleet_core.contract.topics import TENANT_DEVICES, Kind, is_valid_id, parse
from fleet_core.runtime.mqtt import (
    Address,
    ConnectionLost,
    Delivery,
    SubscriptionRefused,
    connect,
)

MAX_LIVE_DEVICES = 200_000
_DELIVERIES_AT_ONCE = 256


class DeviceLeft(msgspec.Struct, frozen=True):
    """The device is no longer in the tenant."""

    device_id: str


Change = LiveDevice | DeviceLeft


class LiveFleet:
    """The devices of a tenant as the changes so far describe them."""

    def __init__(self, limit: int = MAX_LIVE_DEVICES) -> None:
        self._limit = limit
        self._devices: dict[str, LiveDevice] = {}

    def apply(self, change: Change) -> LiveDevice | None:
        """Take one change; gives what was known of the device before. Raises `CommandFailed` for
        more devices than a live view holds."""
        if isinstance(change, DeviceLeft):
            return self._devices.pop(change.device_id, None)
        before = self._devices.get(change.device_id)
        if before is None and len(self._devices) >= self._limit:
            raise CommandFailed(
                "internal",
                f"a live view holds at most {self._limit:,} devices",
                "narrow it with --site or --status",
            )
        self._devices[change.device_id] = change
        return before

    def refresh(self, rows: Sequence[DeviceRow]) -> None:
        """Bring what changes with every heartbeat up to date, of devices that are in the picture.
        Whether a device is well is told by its own topic, which is published on change only."""
        for row in rows:
            before = self._devices.get(row.device_id)
            if before is not None:
                self._devices[row.device_id] = msgspec.structs.replace(
                    before,
                    last_heartbeat_at=row.last_seen_at,
                    cpu_percent=row.cpu_percent,
                    ram_percent=row.ram_percent,
                    disk_percent=row.disk_percent,
                )

    def devices(self) -> Sequence[LiveDevice]:
        """All that are there, in the order in which they appeared."""
        return list(self._devices.values())


async def follow(
    address: Address,
    client_id: str,
    tenant: str,
    *,
    timeout_s: float = 10.0,
    on_subscribed: Callable[[], None] | None = None,
) -> AsyncGenerator[Change, None]:
    """Every device of `tenant` and each change from now on, without end.

    `timeout_s` bounds connecting; `on_subscribed` is called once the broker has agreed.
    Raises `BrokerUnreachable` when there is no connection or it breaks, `CommandFailed` with
    `denied` when the broker refuses the subscription. Close it (`contextlib.aclosing`) when done.
    """
    if not is_valid_id(Kind.TENANTS, tenant):
        raise CommandFailed("usage", f"{tenant[:80]!r} is no tenant")
    try:
        async with connect(
            address, client_id, clean_session=True, timeout_s=timeout_s
        ) as connection:
            await connection.subscribe([(TENANT_DEVICES.filter(tenant), 1)])
            if on_subscribed is not None:
                on_subscribed()
            while True:
                for delivery in await connection.receive(_DELIVERIES_AT_ONCE):
                    change = read_change(delivery, tenant)
                    if change is not None:
                        yield change
                    connection.acknowledge((delivery,))
    except SubscriptionRefused as error:
        raise CommandFailed("denied", str(error)) from error
    except ConnectionLost as error:
        raise BrokerUnreachable(str(error)) from error


def read_change(delivery: Delivery, tenant: str) -> Change | None:
    """What one delivery says; None for what is not for us."""
    with contextlib.suppress(Rejected):
        topic = parse(delivery.topic)
        if topic.template is not TENANT_DEVICES or topic.identity != tenant:
            return None
        if not is_valid_id(Kind.DEVICES, topic.key):
            return None
        if not delivery.payload:
            return DeviceLeft(topic.key)
        device = decode(TENANT_DEVICES, delivery.payload)
        if isinstance(device, LiveDevice) and device.device_id == topic.key:
            return device
    return None
