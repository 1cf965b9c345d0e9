"""Births, goodbyes and wills on their way into the registry."""

from __future__ import annotations

import msgspec

from fleet_core.contract.messages import DeviceHealth, DeviceStatus, Farewell
from fleet_core.contract.topics import DEVICE_STATUS
from fleet_core.registry.states import Loaded
from fleet_core.runtime.routes import Inbound, Outcome
from handlers import status as handler
from tests.fixtures.store import BOOT_A, MemoryRegistry, context, device_state, inbound, seconds
from tests.fixtures.store import status as message


def registry_of(health: DeviceHealth) -> MemoryRegistry:
    registry = MemoryRegistry("gw-1", "gw-2")
    state = device_state(
        "gw-1", status=health, boot_id=BOOT_A, session=2, seq=7, last_heartbeat_at=seconds(-1)
    )
    registry.tables.states["gw-1"] = Loaded(state, 0, 0)
    return registry


def said(device_id: str, reason: Farewell, session: int, s: float) -> Inbound[DeviceStatus]:
    return inbound(DEVICE_STATUS, device_id, message(reason, session), s=s)


async def handle(registry: MemoryRegistry, *batch: Inbound[DeviceStatus]) -> Outcome:
    async with registry.transaction() as tx:
        return await handler.handle(batch, tx, context())


async def test_a_goodbye_is_state_event_and_picture() -> None:
    registry = registry_of(DeviceHealth.ONLINE)
    outcome = await handle(registry, said("gw-1", Farewell.GOODBYE, 2, 5))
    assert outcome == Outcome()
    assert registry.tables.states["gw-1"].state.status is DeviceHealth.OFFLINE
    assert [e.message for e in registry.tables.platform_events] == ["online -> offline (goodbye)"]
    assert registry.tables.live_changes == ["gw-1"]


async def test_a_will_is_state_only_until_the_sweep() -> None:
    registry = registry_of(DeviceHealth.ONLINE)
    await handle(registry, said("gw-1", Farewell.WILL, 2, 5))
    assert registry.tables.states["gw-1"].state.will_recheck_at == seconds(10)
    assert registry.tables.platform_events == []
    assert registry.tables.live_changes == []


async def test_what_changes_nothing_is_not_written() -> None:
    registry = registry_of(DeviceHealth.ONLINE)
    before = registry.tables.states["gw-1"]
    await handle(registry, said("gw-1", Farewell.WILL, 1, 5), said("gw-1", Farewell.BIRTH, 2, 6))
    assert registry.tables.states["gw-1"] is before


async def test_a_batch_is_folded_in_order_and_strangers_are_rejected() -> None:
    registry = registry_of(DeviceHealth.ONLINE)
    outcome = await handle(
        registry,
        said("gw-1", Farewell.WILL, 2, 1),
        said("gw-9", Farewell.BIRTH, 1, 1),
        said("gw-1", Farewell.BIRTH, 3, 2),
        said("gw-2", Farewell.BIRTH, 1, 3),
    )
    assert [(i.identity, e.reason) for i, e in outcome.rejected] == [("gw-9", "unknown_device")]
    state = registry.tables.states["gw-1"].state
    assert (state.session, state.will_recheck_at, state.status) == (3, None, DeviceHealth.ONLINE)
    assert registry.tables.states["gw-2"].state.boot_id == BOOT_A
    assert set(registry.tables.states) == {"gw-1", "gw-2"}


async def test_a_status_keeps_the_picture_of_connectors() -> None:
    registry = registry_of(DeviceHealth.ONLINE)
    loaded = registry.tables.states["gw-1"]
    registry.tables.states["gw-1"] = msgspec.structs.replace(
        loaded, connectors_running=1, connectors_total=2
    )
    await handle(registry, said("gw-1", Farewell.BIRTH, 3, 2))
    after = registry.tables.states["gw-1"]
    assert (after.connectors_running, after.connectors_total) == (1, 2)
    assert registry.tables.live_changes == []
