"""The present state of devices: read as it was written, cheap to write, swept by deadlines."""

from __future__ import annotations

from contextlib import suppress

import msgspec
import pytest

from fleet_core.contract.messages import Connector, ConnectorStatus, DeviceHealth
from fleet_core.registry.states import Swept
from fleet_core.registry.store import Registry
from fleet_core.rules.presence import Policy
from tests.fixtures.store import BOOT_A, NOW, beat, metrics, seconds
from tests.integration.registry.stories import (
    fetch,
    put,
    put_online,
    register,
    run,
    state_of,
)

ONLINE, WARNING, OFFLINE = DeviceHealth.ONLINE, DeviceHealth.WARNING, DeviceHealth.OFFLINE
EVERYTHING = {
    "status": WARNING,
    "since": seconds(1),
    "score": 0,
    "boot_id": BOOT_A,
    "session": 2**63 - 1,
    "seq": 2**63 - 1,
    "interval_s": 300,
    "heartbeat_at": seconds(2),
    "last_heartbeat_at": seconds(3),
    "late_at": seconds(4),
    "offline_at": seconds(5),
    "will_recheck_at": seconds(6),
    "ended_at": seconds(7),
    "clock_skewed": True,
}


async def sweep(
    registry: Registry, s: float, listening_since_s: float = -1000, limit: int = 100
) -> list[Swept]:
    async with registry.transaction() as tx:
        found = await tx.states.sweep(seconds(s), seconds(listening_since_s), limit)
    return sorted(found, key=lambda swept: swept.device_id)


def what(found: list[Swept]) -> list[tuple[str, str, str]]:
    return [(swept.device_id, swept.after.value, swept.reason) for swept in found]


# --- read and write -------------------------------------------------------------------------------


async def test_a_registered_device_is_unseen(registry: Registry) -> None:
    await register(registry, "gw-1")
    async with registry.transaction() as tx:
        loaded = await tx.states.lock(["gw-1", "gw-9"])
    assert set(loaded) == {"gw-1"}
    state = loaded["gw-1"].state
    assert (state.status, state.seq, state.boot_id) == (DeviceHealth.UNSEEN, 0, None)
    assert (loaded["gw-1"].connectors_running, loaded["gw-1"].connectors_total) == (0, 0)


@pytest.mark.parametrize("with_sample", [False, True])
async def test_a_state_is_read_as_it_was_written(registry: Registry, *, with_sample: bool) -> None:
    await register(registry, "gw-1", "gw-2")
    await put(registry, "gw-1", **EVERYTHING, sample=beat() if with_sample else None)
    state = await state_of(registry, "gw-1")
    for name, value in EVERYTHING.items():
        assert getattr(state, name) == value, name
    assert state.sample is None
    await put(registry, "gw-1", **dict.fromkeys(("score", "boot_id", "late_at", "ended_at")))
    state = await state_of(registry, "gw-1")
    assert (state.score, state.boot_id, state.late_at, state.ended_at) == (None,) * 4
    assert (await state_of(registry, "gw-2")).status is DeviceHealth.UNSEEN


async def test_the_newest_sample_is_kept_until_there_is_another(registry: Registry) -> None:
    await register(registry, "gw-1")
    connectors = [
        Connector(name='a"\\{}', type="NULL", status=ConnectorStatus.RUNNING),
        Connector(name="b"),
    ]
    sample = beat(metrics=metrics(12.5, custom={"x": 1.5}), connectors=connectors)
    await put(registry, "gw-1", sample=sample)
    await put(registry, "gw-1", seq=9)
    async with registry.transaction() as tx:
        (row,) = await fetch(tx, "SELECT * FROM device_state")
        loaded = (await tx.states.lock(["gw-1"]))["gw-1"]
    assert (row["cpu_percent"], row["seq"]) == (12.5, 9)
    assert msgspec.convert(row["metrics"], type(sample.metrics)) == sample.metrics
    assert msgspec.convert(row["connectors"], list[Connector]) == connectors
    assert (loaded.connectors_running, loaded.connectors_total) == (1, 2)


async def test_many_states_of_both_kinds_in_one_go(registry: Registry) -> None:
    ids = [f"gw-{n:03}" for n in range(300)]
    await register(registry, *ids)
    async with registry.transaction() as tx:
        loaded = await tx.states.lock(ids)
        await tx.states.save(
            [
                msgspec.structs.replace(
                    loaded[i].state, seq=n + 1, sample=beat(n + 1) if n % 2 else None
                )
                for n, i in enumerate(ids)
            ]
        )
    async with registry.transaction() as tx:
        loaded = await tx.states.lock(ids)
    assert [loaded[i].state.seq for i in ids] == list(range(1, 301))


async def test_no_states_are_no_statement(registry: Registry) -> None:
    async with registry.transaction() as tx:
        await tx.states.save([])
        assert await tx.states.lock([]) == {}


async def test_a_heartbeat_updates_its_row_in_place(plain_registry: Registry) -> None:
    """HOT: no index entry is written. An index on a column that changes would end it."""
    ids = [f"gw-{n}" for n in range(20)]
    await register(plain_registry, *ids)
    for round_ in range(1, 31):
        async with plain_registry.transaction() as tx:
            loaded = await tx.states.lock(ids)
            sample = beat(round_, connectors=[Connector(name="c" * 50)] * 3)
            states = [loaded[i].state for i in ids]
            changed = {"seq": round_, "last_heartbeat_at": seconds(round_), "sample": sample}
            await tx.states.save([msgspec.structs.replace(s, **changed) for s in states])
            await fetch(tx, "SELECT pg_stat_force_next_flush()")
    async with plain_registry.transaction() as tx:
        (row,) = await fetch(tx, "SELECT * FROM pg_stat_user_tables WHERE relname = 'device_state'")
    assert row["n_tup_upd"] == 20 * 30
    assert row["n_tup_hot_upd"] >= 0.95 * row["n_tup_upd"]  # a first sample may have to move


# --- the sweep ------------------------------------------------------------------------------------


async def test_silence_makes_a_device_late_and_then_offline_each_once(registry: Registry) -> None:
    await register(registry, "gw-1")
    await put_online(registry, "gw-1", score=90)
    assert await sweep(registry, 59.999) == []
    assert await sweep(registry, 60) == [Swept("gw-1", ONLINE, WARNING, "late", 90)]
    assert await sweep(registry, 61) == []
    assert await sweep(registry, 299.999) == []
    assert await sweep(registry, 300) == [Swept("gw-1", WARNING, OFFLINE, "silent", 90)]
    assert await sweep(registry, 10_000) == []
    state = await state_of(registry, "gw-1")
    assert (state.status, state.since) == (OFFLINE, seconds(300))


async def test_a_device_that_is_long_gone_is_offline_at_once(registry: Registry) -> None:
    await register(registry, "gw-1")
    await put_online(registry, "gw-1")
    assert what(await sweep(registry, 4000)) == [("gw-1", "offline", "silent")]


async def test_a_device_in_warning_for_its_score_is_not_late_again(registry: Registry) -> None:
    await register(registry, "gw-1")
    await put_online(registry, "gw-1", status=WARNING, score=10)
    assert await sweep(registry, 100) == []
    assert what(await sweep(registry, 300)) == [("gw-1", "offline", "silent")]


async def test_the_strict_policy_knows_no_lateness(registry: Registry) -> None:
    await register(registry, "gw-1")
    late_at, offline_at = Policy(strict=True).deadlines(NOW, 30)
    await put_online(registry, "gw-1", late_at=late_at, offline_at=offline_at)
    assert await sweep(registry, 59.999) == []
    assert what(await sweep(registry, 60)) == [("gw-1", "offline", "silent")]


@pytest.mark.parametrize("status", [ONLINE, WARNING])
async def test_a_will_is_applied_at_its_recheck(registry: Registry, status: DeviceHealth) -> None:
    await register(registry, "gw-1")
    await put_online(registry, "gw-1", status=status, will_recheck_at=seconds(5))
    assert await sweep(registry, 4.999) == []
    assert what(await sweep(registry, 5)) == [("gw-1", "offline", "will")]
    assert (await state_of(registry, "gw-1")).will_recheck_at is None
    assert await sweep(registry, 6) == []


async def test_a_will_is_not_forgotten_when_the_device_is_late_first(registry: Registry) -> None:
    """Lateness between the will and its recheck cleared the will: the device stayed in warning for
    minutes."""
    await register(registry, "gw-1")
    await put_online(registry, "gw-1", will_recheck_at=seconds(62))
    assert what(await sweep(registry, 60)) == [("gw-1", "warning", "late")]
    assert what(await sweep(registry, 62)) == [("gw-1", "offline", "will")]


async def test_silence_counts_only_while_somebody_listens(registry: Registry) -> None:
    await register(registry, "gw-1")
    await put_online(registry, "gw-1")
    assert await sweep(registry, 1059.999, 1000) == []
    assert what(await sweep(registry, 1060, 1000)) == [("gw-1", "warning", "late")]
    assert await sweep(registry, 1299.999, 1000) == []
    assert what(await sweep(registry, 1300, 1000)) == [("gw-1", "offline", "silent")]


async def test_a_will_is_no_silence(registry: Registry) -> None:
    await register(registry, "gw-1")
    await put_online(registry, "gw-1", will_recheck_at=seconds(5))
    assert what(await sweep(registry, 1001, 1000)) == [("gw-1", "offline", "will")]


async def test_a_device_heard_while_somebody_listens_gets_no_grace(registry: Registry) -> None:
    await register(registry, "gw-1")
    await put_online(registry, "gw-1")
    assert what(await sweep(registry, 60, -1)) == [("gw-1", "warning", "late")]


async def test_a_sweep_changes_at_most_as_many_as_it_may(registry: Registry) -> None:
    ids = [f"gw-{n}" for n in range(5)]
    await register(registry, *ids)
    await put_online(registry, *ids)
    found = [await sweep(registry, 60, limit=2) for _ in range(4)]
    assert [len(f) for f in found] == [2, 2, 1, 0]
    assert sorted(s.device_id for f in found for s in f) == ids


@pytest.mark.parametrize("status", [DeviceHealth.UPDATING, DeviceHealth.UNSEEN, OFFLINE])
async def test_other_states_are_left_alone(registry: Registry, status: DeviceHealth) -> None:
    await register(registry, "gw-1")
    await put_online(registry, "gw-1", status=status, will_recheck_at=seconds(1))
    assert await sweep(registry, 10_000) == []
    assert (await state_of(registry, "gw-1")).status is status


async def test_a_device_that_is_being_written_is_left_for_the_next_sweep(
    plain_registry: Registry,
) -> None:
    await register(plain_registry, "gw-1", "gw-2")
    await put_online(plain_registry, "gw-1", "gw-2")
    async with plain_registry.transaction() as tx:
        await tx.states.lock(["gw-1"])
        assert what(await sweep(plain_registry, 60)) == [("gw-2", "warning", "late")]
    assert what(await sweep(plain_registry, 60)) == [("gw-1", "warning", "late")]


async def test_a_sweep_that_is_rolled_back_changed_nothing(registry: Registry) -> None:
    await register(registry, "gw-1")
    await put_online(registry, "gw-1")
    with suppress(ZeroDivisionError):
        async with registry.transaction() as tx:
            assert await tx.states.sweep(seconds(60), seconds(0)) != []
            raise ZeroDivisionError
    assert len(await sweep(registry, 60)) == 1


async def test_a_savepoint_undoes_its_own_writes_only(registry: Registry) -> None:
    await register(registry, "gw-1", "gw-2")
    async with registry.transaction() as tx:
        await run(tx, "UPDATE device_state SET seq = 1")
        with suppress(ZeroDivisionError):
            async with tx.savepoint():
                await run(tx, "UPDATE device_state SET seq = 2")
                raise ZeroDivisionError
        async with tx.savepoint():
            await run(tx, "UPDATE device_state SET seq = 3 WHERE device_id = 'gw-2'")
    assert (await state_of(registry, "gw-1")).seq == 1
    assert (await state_of(registry, "gw-2")).seq == 3
