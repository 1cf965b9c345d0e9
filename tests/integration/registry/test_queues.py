"""What is owed to the broker: in order, by one at a time, until it was confirmed."""

from __future__ import annotations

import pytest

from fleet_core.contract.publication import Publication
from fleet_core.registry.store import Registry
from tests.integration.registry.stories import register


def publication(n: int) -> Publication:
    return Publication(f"topic/{n}", bytes([0, n, 255, 92]), n % 2, bool(n % 2))


async def claimed(registry: Registry, limit: int) -> tuple[list[int], list[Publication]]:
    async with registry.transaction() as tx:
        return await tx.outbox.claim(limit)


async def test_the_outbox_gives_back_what_it_was_given_in_order(registry: Registry) -> None:
    wanted = [publication(n) for n in range(7)]
    async with registry.transaction() as tx:
        await tx.outbox.insert(wanted[:3])
        await tx.outbox.insert([])
    async with registry.transaction() as tx:
        await tx.outbox.insert(wanted[3:])
    ids, found = await claimed(registry, 5)
    assert found == wanted[:5]
    assert ids == sorted(ids)
    assert await claimed(registry, 5) == (ids, found)  # nothing was deleted: it is owed still
    async with registry.transaction() as tx:
        await tx.outbox.delete(ids)
    assert (await claimed(registry, 5))[1] == wanted[5:]


async def test_the_outbox_owes_nothing_of_a_transaction_that_was_rolled_back(
    registry: Registry,
) -> None:
    with pytest.raises(ZeroDivisionError):
        await _insert_and_fail(registry)
    assert await claimed(registry, 5) == ([], [])


async def _insert_and_fail(registry: Registry) -> None:
    async with registry.transaction() as tx:
        await tx.outbox.insert([publication(1)])
        raise ZeroDivisionError


async def test_one_drains_the_outbox_at_a_time(plain_registry: Registry) -> None:
    async with plain_registry.transaction() as tx:
        await tx.outbox.insert([publication(1), publication(2)])
    async with plain_registry.transaction() as first:
        ids, _ = await first.outbox.claim(1)
        assert len(ids) == 1
        assert await claimed(plain_registry, 5) == ([], [])
        async with plain_registry.transaction() as other:
            await other.outbox.insert([publication(3)])  # who owes more need not wait
            assert await other.live_changes.claim(1) == ([], set())  # another lock
        await first.outbox.delete(ids)
    _, found = await claimed(plain_registry, 5)
    assert found == [publication(2), publication(3)]


async def test_live_changes_are_ids_oldest_first_and_repeat_until_deleted(
    registry: Registry,
) -> None:
    async with registry.transaction() as tx:
        await tx.live_changes.insert({"b", "a"})
        await tx.live_changes.insert(["a"])
        await tx.live_changes.insert([])
        await tx.live_changes.insert(["c"])
    async with registry.transaction() as tx:
        ids, devices = await tx.live_changes.claim(3)
        assert (len(ids), devices) == (3, {"a", "b"})
        await tx.live_changes.delete(ids)
    async with registry.transaction() as tx:
        assert (await tx.live_changes.claim(3))[1] == {"c"}


async def test_every_picture_can_be_announced_anew(registry: Registry) -> None:
    await register(registry, "gw-1", "gw-2")
    async with registry.transaction() as tx:
        await tx.live_changes.insert_all()
        assert (await tx.live_changes.claim(10))[1] == {"gw-1", "gw-2"}


async def test_one_publishes_pictures_at_a_time(plain_registry: Registry) -> None:
    async with plain_registry.transaction() as tx:
        await tx.live_changes.insert(["a"])
    async with plain_registry.transaction() as first:
        assert (await first.live_changes.claim(5))[1] == {"a"}
        async with plain_registry.transaction() as second:
            assert await second.live_changes.claim(5) == ([], set())
    async with plain_registry.transaction() as tx:
        assert (await tx.live_changes.claim(5))[1] == {"a"}
