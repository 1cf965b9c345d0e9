"""The devices: registered once, found by whatever they are called."""

from __future__ import annotations

import itertools
from contextlib import suppress
from typing import Any

import pytest

from fleet_core.contract.errors import RefusedByDatabase
from fleet_core.contract.messages import Connector, ConnectorStatus, DeviceHealth, DeviceInfo
from fleet_core.contract.operations import MAX_TAGS, DeviceList, DeviceSort, NewDevice
from fleet_core.registry.store import Registry
from tests.fixtures.store import BOOT_A, NOW, beat, metrics, seconds
from tests.integration.registry.stories import TENANT, fetch, put, put_online, register

UNUSUAL = [
    "'; DROP TABLE devices; --",
    '"quoted"',
    "back\\slash",
    "100%",
    "under_score",
    "{braces,NULL}",
    "NULL",
    "%(tenant_id)s %s {order}",
    "漢字 ☃ \U0001f600",
    "e\N{COMBINING ACUTE ACCENT}",
    "\N{RIGHT-TO-LEFT OVERRIDE}gpj.exe",
    "line\nbreak\ttab",
    "$1",
    " ",
]


async def found(registry: Registry, **wanted: Any) -> list[str]:
    """Ids of one page, checked against the count of all."""
    question = DeviceList(**wanted)
    async with registry.transaction() as tx:
        page = await tx.devices.page(TENANT, question)
        total = await tx.devices.count(TENANT, question)
    assert total >= len(page)
    if question.offset == 0 and len(page) < question.limit:
        assert total == len(page)
    return [row["device_id"] for row in page]


# --- registration ---------------------------------------------------------------------------------


async def test_a_registered_device_has_a_row_a_state_and_a_site(registry: Registry) -> None:
    await register(registry, "gw-1", name="Gateway", owner="ops", tags={"env": "prod"})
    async with registry.transaction() as tx:
        row = await tx.devices.detail(TENANT, "gw-1")
        sites = await fetch(tx, "SELECT name FROM sites")
    assert row is not None
    assert (row["name"], row["site"], row["owner"]) == ("Gateway", "berlin", "ops")
    assert (row["tags"], row["lifecycle"], row["tenant"]) == (
        {"env": "prod"},
        "provisioned",
        TENANT,
    )
    assert (row["status"], row["info"], row["metrics"]) == ("unseen", {}, None)
    assert sites == [{"name": "berlin"}]


async def test_an_id_that_is_taken_is_left_alone(registry: Registry) -> None:
    await register(registry, "gw-2", name="first")
    async with registry.transaction() as tx:
        devices = [NewDevice(device_id=f"gw-{n}", name="second", site="kiel") for n in (3, 2, 1)]
        assert await tx.devices.register(TENANT, devices) == ["gw-1", "gw-3"]
        row = await tx.devices.detail(TENANT, "gw-2")
    assert row is not None
    assert (row["name"], row["site"]) == ("first", "berlin")


async def test_what_is_rolled_back_was_never_registered(registry: Registry) -> None:
    with suppress(ZeroDivisionError):
        async with registry.transaction() as tx:
            await tx.devices.register(TENANT, [NewDevice(device_id="gw-1", name="n", site="s")])
            raise ZeroDivisionError
    async with registry.transaction() as tx:
        assert await tx.devices.known(["gw-1"]) == set()
        assert await fetch(tx, "SELECT * FROM sites") == []


async def test_a_tenant_nobody_knows_is_refused(registry: Registry) -> None:
    with pytest.raises(RefusedByDatabase):
        async with registry.transaction() as tx:
            await tx.devices.register("nobody", [NewDevice(device_id="gw-1", name="n", site="s")])


@pytest.mark.parametrize("text", UNUSUAL, ids=ascii)
async def test_any_text_is_kept_and_found_as_it_is(registry: Registry, text: str) -> None:
    await register(registry, "other")
    await register(registry, "gw-1", name=text, site=text, owner=text, tags={"key": text})
    async with registry.transaction() as tx:
        row = await tx.devices.detail(TENANT, "gw-1")
    assert row is not None
    assert (row["name"], row["site"], row["owner"], row["tags"]) == (
        text,
        text,
        text,
        {"key": text},
    )
    assert await found(registry, site=[text]) == ["gw-1"]
    assert await found(registry, tags={"key": text}) == ["gw-1"]
    if text.strip():
        assert await found(registry, text=text) == ["gw-1"]
    async with registry.transaction() as tx:
        assert await tx.devices.known(["gw-1", text]) == {"gw-1"}
        assert await tx.devices.detail(TENANT, text) is None


async def test_the_most_tags_of_the_longest_values(registry: Registry) -> None:
    tags = {f"key{n:02}" + "k" * 58: "\U0001f600" * 128 for n in range(MAX_TAGS)}
    await register(registry, "gw-1", tags=tags)
    assert await found(registry, tags=tags) == ["gw-1"]


# --- filters --------------------------------------------------------------------------------------


async def test_filters_are_joined_by_and(registry: Registry) -> None:
    await register(registry, "a1", "a2", site="kiel", tags={"env": "prod"})
    await register(registry, "b1", site="berlin", tags={"env": "prod", "line": "1"})
    await put_online(registry, "a1", "b1")
    assert await found(registry) == ["a1", "a2", "b1"]
    assert await found(registry, status=[DeviceHealth.ONLINE]) == ["a1", "b1"]
    assert await found(registry, status=[DeviceHealth.ONLINE, DeviceHealth.UNSEEN]) == [
        "a1",
        "a2",
        "b1",
    ]
    assert await found(registry, site=["kiel", "nowhere"]) == ["a1", "a2"]
    assert await found(registry, status=[DeviceHealth.ONLINE], site=["kiel"]) == ["a1"]
    assert await found(registry, text="a", tags={"line": "1"}) == []
    async with registry.transaction() as tx:
        assert await tx.devices.page("nobody", DeviceList()) == []
        assert await tx.devices.detail("nobody", "a1") is None


async def test_tags_are_contained_with_their_values(registry: Registry) -> None:
    await register(registry, "gw-1", tags={"env": "prod", "a/b.c-d": "", "line": "1"})
    await register(registry, "gw-2", tags={"env": "test"})
    await register(registry, "gw-3")
    assert await found(registry, tags={}) == ["gw-1", "gw-2", "gw-3"]
    assert await found(registry, tags={"env": "prod"}) == ["gw-1"]
    assert await found(registry, tags={"env": "prod", "line": "1"}) == ["gw-1"]
    assert await found(registry, tags={"env": "prod", "line": "2"}) == []
    assert await found(registry, tags={"a/b.c-d": ""}) == ["gw-1"]
    assert await found(registry, tags={"env": ""}) == []
    assert await found(registry, tags={"prod": "env"}) == []


@pytest.mark.parametrize("text", ["%", "_", "\\", "'", '"', "g%", "gw_1", "*", "gw-1|gw-2", ".*"])
async def test_a_text_is_a_part_and_never_a_pattern(registry: Registry, text: str) -> None:
    await register(registry, "gw-1", "gw-2")
    assert await found(registry, text=text) == []


async def test_a_text_is_searched_in_names_hosts_and_addresses_in_any_case(
    registry: Registry,
) -> None:
    await register(registry, "gw-1", name="Press Line")
    await register(registry, "gw-2")
    info = DeviceInfo(hostname="Edge-7.example.org", addresses=["192.0.2.17", "2001:DB8::1"])
    async with registry.transaction() as tx:
        await tx.devices.save_info({"gw-2": beat(info=info)})
    for text in ("PRESS", "press l", "GW-1", "w-1"):
        assert await found(registry, text=text) == ["gw-1"]
    for text in ("edge-7", "EXAMPLE", "0.2.1", "db8::"):
        assert await found(registry, text=text) == ["gw-2"]
    assert await found(registry, text="gw") == ["gw-1", "gw-2"]


# --- order and pages ------------------------------------------------------------------------------


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("sort", DeviceSort)
async def test_pages_in_every_order_are_whole_and_disjoint(
    registry: Registry, sort: DeviceSort, *, descending: bool
) -> None:
    ids = [f"gw-{n}" for n in range(7)]
    await register(registry, *ids)
    for n, device_id in enumerate(ids[:4]):
        await put(registry, device_id, score=n % 2, sample=beat(metrics=metrics(n % 2, 5, 5)))
    order = {"sort": sort, "descending": descending}
    pages = [await found(registry, **order, limit=3, offset=o) for o in (0, 3, 6, 9)]
    assert [len(page) for page in pages] == [3, 3, 1, 0]
    assert sorted(itertools.chain(*pages)) == ids
    assert list(itertools.chain(*pages)) == await found(registry, **order)


async def test_what_is_not_known_comes_last_in_either_direction(registry: Registry) -> None:
    await register(registry, "a1", "b1", "c1", "d1")
    await put(registry, "b1", score=90, last_heartbeat_at=seconds(2))
    await put(registry, "c1", score=10, last_heartbeat_at=seconds(1))
    for sort in (DeviceSort.SCORE, DeviceSort.SEEN):
        assert await found(registry, sort=sort) == ["c1", "b1", "a1", "d1"]
        assert await found(registry, sort=sort, descending=True) == ["b1", "c1", "a1", "d1"]


async def test_what_needs_a_person_comes_first_by_status(registry: Registry) -> None:
    healths = ["online", "unseen", "updating", "warning", "offline"]
    for health in healths:
        await register(registry, f"{health}-1")
        await put(registry, f"{health}-1", status=DeviceHealth(health))
    assert await found(registry, sort=DeviceSort.STATUS) == [f"{h}-1" for h in reversed(healths)]


async def test_a_page_beyond_the_last_is_empty(registry: Registry) -> None:
    await register(registry, "gw-1")
    assert await found(registry, offset=2**63 - 1) == []


# --- what devices say of themselves ---------------------------------------------------------------


@pytest.mark.parametrize(
    "info",
    [
        DeviceInfo(os="Debian"),
        DeviceInfo(hostname="h"),
        DeviceInfo(addresses=["a", '"', "NULL", "{}", "\\", ""]),
        DeviceInfo(hostname='q"u\\o{t}e', kernel="漢字", addresses=["::1"] * 32),
    ],
)
async def test_information_is_kept_whatever_is_left_out(
    registry: Registry, info: DeviceInfo
) -> None:
    """Without a hostname the whole heartbeat was refused: an empty one is not on the wire."""
    await register(registry, "gw-1")
    async with registry.transaction() as tx:
        await tx.devices.save_info({"gw-1": beat(info=info), "gw-9": beat(info=info)})
    async with registry.transaction() as tx:
        row = await tx.devices.detail(TENANT, "gw-1")
    assert row is not None
    assert (row["hostname"], row["addresses"]) == (info.hostname, info.addresses)
    assert row["info"].get("kernel", "") == info.kernel


async def test_information_that_is_the_same_or_older_is_not_written(registry: Registry) -> None:
    await register(registry, "gw-1")
    for seq, hostname, expected in ((2, "h", 1), (3, "h", 0), (1, "older", 0), (4, "newer", 1)):
        async with registry.transaction() as tx:
            changed = await tx.devices._execute(
                "save_info",
                {
                    "device_ids": ["gw-1"],
                    "boot_ids": [BOOT_A],
                    "seqs": [seq],
                    "infos": [f'{{"hostname": "{hostname}"}}'],
                },
            )
            await tx.devices.save_info({})
        assert changed == expected, seq


# --- pictures -------------------------------------------------------------------------------------


async def test_a_live_picture_has_what_a_table_shows(registry: Registry) -> None:
    await register(registry, "gw-1", name="n", tags={"a": "b"})
    sample = beat(
        metrics=metrics(12.5, 25, 50),
        connectors=[Connector(name="c", status=ConnectorStatus.RUNNING), Connector(name="d")],
    )
    await put(
        registry,
        "gw-1",
        status=DeviceHealth.WARNING,
        score=70,
        boot_id=BOOT_A,
        last_heartbeat_at=NOW,
        sample=sample,
    )
    async with registry.transaction() as tx:
        ((tenant, live),) = await tx.devices.live(["gw-1", "gw-9"])
    assert (tenant, live.device_id, live.status, live.score) == (TENANT, "gw-1", "warning", 70)
    assert (live.cpu_percent, live.ram_percent, live.disk_percent) == (12.5, 25, 50)
    assert (live.connectors_running, live.connectors_total) == (1, 2)
    assert (live.last_heartbeat_at, live.tags) == (NOW, {"a": "b"})


async def test_the_summary_counts_by_status(registry: Registry) -> None:
    await register(registry, "a1", "a2", "b1", "c1")
    await put_online(registry, "a1", sample=beat(metrics=metrics(10, 20, 30)))
    await put_online(registry, "a2", sample=beat(metrics=metrics(30, 20, 30)))
    await put_online(registry, "b1", status=DeviceHealth.OFFLINE)
    async with registry.transaction() as tx:
        rows = {row["status"]: row for row in await tx.devices.summary(TENANT)}
    assert {status: (row["devices"], row["seen"]) for status, row in rows.items()} == {
        "online": (2, 2),
        "offline": (1, 1),
        "unseen": (1, 0),
    }
    assert (rows["online"]["cpu_mean"], rows["online"]["cpu_peak"]) == (20, 30)
    assert rows["unseen"]["cpu_mean"] is None
