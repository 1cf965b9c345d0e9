"""Hostile ids and topics, on both brokers: whoever gets the message first, nothing comes of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fleet_core.contract.topics import DEVICE_STATUS
from tests.faults.hostile import hostile_client
from tests.faults.stage import DEVICE, HOSTILE_IDS, Stage, heartbeat, run_stage
from tests.fixtures.brokers import start_embedded, start_mosquitto
from tests.fixtures.eventually import eventually
from tests.fixtures.platform import RunningPostgres


@pytest.fixture(
    scope="module", params=[start_mosquitto, start_embedded], ids=["mosquitto", "embedded"]
)
def module_stage(
    request: pytest.FixtureRequest, fragile_server: RunningPostgres
) -> Iterator[Stage]:
    with run_stage(fragile_server, request.param) as stage:
        yield stage


@pytest.fixture
async def stage(module_stage: Stage) -> Stage:
    await module_stage.is_ready()
    return module_stage


ODD_TOPICS = {
    "nothing": b"",
    "slash": b"/",
    "leading slash": b"/fleet/v1/devices/gw-0001/up/heartbeat",
    "trailing slash": b"fleet/v1/devices/gw-0001/up/heartbeat/",
    "200 levels": b"/".join([b"fleet"] * 200),
    "20,000 levels": b"/" * 20_000,
    "wrong channel": b"fleet/v1/devices/gw-0001/up/heartbeats",
    "wrong version": b"fleet/v2/devices/gw-0001/up/heartbeat",
    "$SYS": b"$SYS/broker/uptime",
    "$share": b"$share/fleet-ingest/fleet/v1/devices/gw-0001/up/heartbeat",
    "a filter": b"fleet/v1/devices/+/up/heartbeat",
    "everything": b"#",
}
TOPICS = {
    **{f"id {name}": b"fleet/v1/devices/%s/up/heartbeat" % i for name, i in HOSTILE_IDS.items()},
    **ODD_TOPICS,
}


@pytest.mark.parametrize("topic", TOPICS.values(), ids=TOPICS.keys())
async def test_a_hostile_topic_does_no_harm(stage: Stage, topic: bytes) -> None:
    """The broker hangs up, or nobody has subscribed, or it is refused: but nothing is stored."""
    heartbeats = stage.count("SELECT count(*) FROM heartbeats")
    await stage.publish_raw(topic, heartbeat())
    await stage.has_heard_everything()
    assert stage.count("SELECT count(*) FROM heartbeats") == heartbeats
    await stage.good_heartbeat_is_stored()
    assert all(len(topic) <= 1024 for topic, _ in stage.letters())


async def test_garbage_as_a_will_is_refused(stage: Stage) -> None:
    before = len(stage.letters())
    will = (DEVICE_STATUS.topic(DEVICE).encode(), b"{}")
    async with hostile_client(stage.broker.port, b"dying", will):
        pass
    await eventually(lambda: len(stage.letters()) == before + 1)
    await stage.good_heartbeat_is_stored()
    await stage.publish_raw(will[0], b"", retain=True)


async def test_retained_garbage_on_a_status_topic_hurts_nobody(stage: Stage) -> None:
    topic, ingest = DEVICE_STATUS.topic(DEVICE), stage.platform["ingest"]
    for garbage in (b"\x00\xff", b"{}", b"[" * 2000):
        await stage.publish_raw(topic.encode(), garbage, retain=True)
    before = len(stage.letters())
    connections = ingest.running_connections
    ingest.kill()
    ingest.start()
    await ingest.connects(connections + 1)
    await stage.good_heartbeat_is_stored_after_letters(before)
    await stage.publish_raw(topic.encode(), b"", retain=True)
