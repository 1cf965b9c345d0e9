"""The devices: who they are, where, and what they say of themselves."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from fleet_core.contract import codec
from fleet_core.contract.messages import Heartbeat, LiveDevice
from fleet_core.contract.operations import DeviceList, DeviceSort, NewDevice
from fleet_core.registry.arrays import numbers, texts
from fleet_core.registry.noun import Noun

_ORDER = {
    DeviceSort.ID: "d.device_id",
    DeviceSort.NAME: "lower(d.name)",
    DeviceSort.SITE: "lower(d.site)",
    DeviceSort.STATUS: (
        "array_position(ARRAY['offline','warning','updating','unseen','online'], s.status)"
    ),
    DeviceSort.SCORE: "s.score",
    DeviceSort.CPU: "s.cpu_percent",
    DeviceSort.RAM: "s.ram_percent",
    DeviceSort.DISK: "s.disk_percent",
    DeviceSort.SEEN: "s.last_heartbeat_at",
}


class Devices(Noun):
    """Reads and writes `devices` and `sites`."""

    sql_file = "devices"

    async def register(self, tenant_id: str, devices: Sequence[NewDevice]) -> list[str]:
        """Add devices and the sites they name; ids that are taken are left alone.

        Returns the ids that are new, ascending.
        """
        sites = [device.site for device in devices]
        await self._execute("add_sites", {"tenant_id": tenant_id, "sites": sites})
        rows = await self._rows(
            "register",
            {
                "tenant_id": tenant_id,
                "device_ids": [device.device_id for device in devices],
                "names": [device.name for device in devices],
                "sites": sites,
                "owners": [device.owner for device in devices],
                "tags": [codec.encode(device.tags).decode() for device in devices],
            },
        )
        return [row["device_id"] for row in rows]

    async def save_info(self, said: Mapping[str, Heartbeat]) -> None:
        """Keep what devices say of themselves in these heartbeats, by device; what was said by a
        later heartbeat of the same boot stays."""
        if said:
            infos = [codec.encode(beat.info).decode() for beat in said.values()]
            await self._execute(
                "save_info",
                {
                    "device_ids": texts(said),
                    "boot_ids": texts([beat.boot_id for beat in said.values()]),
                    "seqs": numbers([beat.seq for beat in said.values()]),
                    "infos": texts(infos),
                },
            )

    async def known(self, device_ids: Collection[str]) -> set[str]:
        """Those of the ids that are registered."""
        rows = await self._rows("known", {"device_ids": sorted(device_ids)})
        return {row["device_id"] for row in rows}

    async def live(self, device_ids: Collection[str]) -> list[tuple[str, LiveDevice]]:
        """The live picture of these devices, each with its tenant."""
        rows = await self._rows("live", {"device_ids": sorted(device_ids)})
        return [(row.pop("tenant_id"), msgspec.convert(row, LiveDevice)) for row in rows]

    async def page(self, tenant_id: str, wanted: DeviceList) -> list[dict[str, Any]]:
        """One page of the devices that match `wanted`."""
        direction = "DESC NULLS LAST" if wanted.descending else "ASC NULLS LAST"
        order = f"{_ORDER[wanted.sort]} {direction}"
        parameters = {**_filters(tenant_id, wanted), "limit": wanted.limit, "offset": wanted.offset}
        return await self._rows("page", parameters, order=order)

    async def count(self, tenant_id: str, wanted: DeviceList) -> int:
        """How many devices match `wanted` in all."""
        row = await self._row("count", _filters(tenant_id, wanted))
        return int(row["total"]) if row else 0

    async def detail(self, tenant_id: str, device_id: str) -> dict[str, Any] | None:
        """Everything about one device; `None` if the tenant has no such device."""
        return await self._row("detail", {"tenant_id": tenant_id, "device_id": device_id})

    async def summary(self, tenant_id: str) -> list[dict[str, Any]]:
        """A row for each status: how many devices, and their mean and peak usage."""
        return await self._rows("summary", {"tenant_id": tenant_id})


def _filters(tenant_id: str, wanted: DeviceList) -> dict[str, Any]:
    return {
        "tenant_id": tenant_id,
        "statuses": [status.value for status in wanted.status],
        "sites": wanted.site,
        "tags": codec.encode(wanted.tags).decode(),
        "text": wanted.text,
    }
