"""What the registry keeps of the platform itself: counters, processes, listeners, requests."""

from __future__ import annotations

import pytest

from fleet_core.contract.errors import RefusedByDatabase
from fleet_core.contract.messages import Presence
from fleet_core.registry.counters import Total
from fleet_core.registry.store import Registry
from tests.fixtures.store import NOW, seconds, service_status


async def test_counters_are_sums_over_processes_since_the_first(registry: Registry) -> None:
    async with registry.transaction() as tx:
        await tx.counters.add("stored", "b", 5, seconds(9))
        await tx.counters.add("stored", "a", 2**40, seconds(3))
        await tx.counters.add("stored", "a", 1, seconds(1))
        await tx.counters.add("stored", "c", 0, seconds(0))
        await tx.counters.add("refused", "a", 7, seconds(4))
        assert await tx.counters.totals() == {
            "stored": Total(2**40 + 6, seconds(3)),
            "refused": Total(7, seconds(4)),
        }


async def test_a_process_is_what_it_said_last(registry: Registry) -> None:
    async with registry.transaction() as tx:
        await tx.services.save("service.a", service_status(pid=1), seconds(1))
        await tx.services.save("service.b", service_status(pid=2, counters={}), seconds(1))
        await tx.services.save(
            "service.a",
            service_status(state=Presence.OFFLINE, pid=2**40, counters={'"x"': 2**62}),
            seconds(2),
        )
        first, second = await tx.services.all()
    assert (first["service_id"], first["state"], first["pid"]) == ("service.a", "offline", 2**40)
    assert (first["counters"], first["received_at"]) == ({'"x"': 2**62}, seconds(2))
    assert (second["service_id"], second["counters"]) == ("service.b", {})


async def test_all_listen_since_the_latest_of_those_who_say_so_now(
    registry: Registry,
) -> None:
    async with registry.transaction() as tx:
        assert await tx.services.listening_since(NOW, 10) is None
        await tx.services.listening("a", seconds(-500), seconds(-11))
        assert await tx.services.listening_since(NOW, 10) is None
        await tx.services.listening("b", seconds(-100), seconds(-1))
        assert await tx.services.listening_since(NOW, 10) == seconds(-100)
        await tx.services.listening("c", seconds(-50), seconds(0))
        assert await tx.services.listening_since(NOW, 10) == seconds(-50)
        await tx.services.listening("b", seconds(-2), seconds(0))
        assert await tx.services.listening_since(NOW, 10) == seconds(-2)
        assert await tx.services.listening_since(seconds(10), 10) is None


async def test_an_answer_is_remembered_by_operator_and_request(registry: Registry) -> None:
    async with registry.transaction() as tx:
        for operator, response in (("operator.a", b"\0\xff\\"), ("operator.b", b"")):
            await tx.requests.insert(
                operator, "r-1", operation="x.y", received_at=NOW, response=response
            )
    async with registry.transaction() as tx:
        assert await tx.requests.find("operator.a", "r-1") == b"\0\xff\\"
        assert await tx.requests.find("operator.b", "r-1") == b""
        assert await tx.requests.find("operator.a", "r-2") is None
        assert await tx.requests.find("operator.a' OR '1'='1", "r-1") is None


async def test_an_answer_is_never_replaced(registry: Registry) -> None:
    async with registry.transaction() as tx:
        await tx.requests.insert("o", "r", operation="x", received_at=NOW, response=b"1")
    with pytest.raises(RefusedByDatabase):
        async with registry.transaction() as tx:
            await tx.requests.insert("o", "r", operation="x", received_at=NOW, response=b"2")
    async with registry.transaction() as tx:
        assert await tx.requests.find("o", "r") == b"1"
