"""What is read from the tenant's topics, and the fleet it adds up to."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from fleet_cli.errors import CommandFailed
from fleet_cli.follow import DeviceLeft, LiveFleet, read_change
from fleet_cli.watch import MAX_QUESTIONS, Selection, questions, selected, stream_row
from fleet_core.contract.codec import encode
from fleet_core.contract.messages import DeviceHealth, LiveDevice
from fleet_core.contract.operations import DeviceRow
from fleet_core.contract.topics import DEVICE_HEARTBEAT, TENANT_DEVICES
from fleet_core.runtime.mqtt import Delivery

AT = datetime(2030, 1, 1, tzinfo=UTC)
WARNINGS = Selection(statuses=frozenset({DeviceHealth.WARNING}))


def state(device_id: str = "gw-1", status: DeviceHealth = DeviceHealth.ONLINE) -> LiveDevice:
    return LiveDevice(device_id=device_id, name="n", site="s", status=status, since=AT)


def delivery(topic: str, payload: bytes) -> Delivery:
    return Delivery(topic, payload, True, AT)


TOPIC = TENANT_DEVICES.topic("default", "gw-1")


def test_a_state_and_a_departure_are_read() -> None:
    assert read_change(delivery(TOPIC, encode(state())), "default") == state()
    assert read_change(delivery(TOPIC, b""), "default") == DeviceLeft("gw-1")


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        (TOPIC, b"not json"),
        (TOPIC, b"{}"),
        (TOPIC, encode(state("gw-2"))),
        (TOPIC, b" " * 5000),
        (TENANT_DEVICES.topic("other", "gw-1"), encode(state())),
        (TENANT_DEVICES.topic("default", "NOT.A.DEVICE"), b""),
        (DEVICE_HEARTBEAT.topic("gw-1"), b""),
        ("$SYS/broker/uptime", b"1"),
        ("a/b", b""),
    ],
)
def test_what_is_not_for_us_is_ignored(topic: str, payload: bytes) -> None:
    assert read_change(delivery(topic, payload), "default") is None


def test_a_fleet_is_the_sum_of_its_changes() -> None:
    fleet = LiveFleet()
    assert fleet.apply(state()) is None
    assert fleet.apply(state(status=DeviceHealth.OFFLINE)) == state()
    assert [device.status for device in fleet.devices()] == [DeviceHealth.OFFLINE]
    fleet.apply(DeviceLeft("gw-1"))
    assert fleet.apply(DeviceLeft("never-seen")) is None
    assert fleet.devices() == []


def test_a_fleet_has_a_limit() -> None:
    fleet = LiveFleet(limit=1)
    fleet.apply(state())
    fleet.apply(state(status=DeviceHealth.OFFLINE))
    with pytest.raises(CommandFailed):
        fleet.apply(state("gw-2"))


def test_a_device_that_no_longer_matches_has_left_the_selection() -> None:
    warning = state(status=DeviceHealth.WARNING)
    assert selected(warning, WARNINGS) == warning
    assert selected(state(), WARNINGS) == DeviceLeft("gw-1")
    row = stream_row(state(), warning, WARNINGS)
    assert row is not None
    assert (row["status"], row["left"]) == ("online", True)
    assert stream_row(state(), None, WARNINGS) is None
    assert stream_row(DeviceLeft("gw-1"), None, WARNINGS) is None


def test_a_picture_that_comes_again_is_no_row() -> None:
    """After a lost connection the broker sends every retained message once more."""
    assert stream_row(state(), state(), Selection()) is None
    assert stream_row(state(status=DeviceHealth.OFFLINE), state(), Selection()) is not None


@pytest.mark.parametrize(
    ("selection", "matches"),
    [
        (Selection(), True),
        (Selection(ids=frozenset({"gw-1", "gw-7"})), True),
        (Selection(ids=frozenset({"gw-7"})), False),
        (Selection(text="GW-"), True),
        (Selection(text="n"), True),
        (Selection(text="nowhere"), False),
        (Selection(tags={"env": "lab"}), True),
        (Selection(tags={"env": "lab", "rack": "2"}), False),
        (Selection(ids=frozenset({"gw-1"}), sites=frozenset({"elsewhere"})), False),
    ],
)
def test_a_selection_is_ids_and_filters(selection: Selection, matches: bool) -> None:
    device = msgspec.structs.replace(state(), tags={"env": "lab", "x": "y"})
    assert selection.matches(device) is matches


def test_what_is_asked_of_chosen_devices_is_bounded() -> None:
    few = Selection(ids=frozenset({"gw-1", "gw-2"}))
    many = Selection(ids=frozenset(f"gw-{n}" for n in range(MAX_QUESTIONS + 1)))
    assert [params.text for params in questions(few)] == ["gw-1", "gw-2"]
    assert [params.text for params in questions(many)] == [""]
    assert [params.text for params in questions(Selection(text="x"))] == ["x"]


def test_a_refresh_brings_numbers_up_to_date_and_nothing_else() -> None:
    fleet = LiveFleet()
    fleet.apply(state("gw-1"))
    seen_at = datetime(2026, 5, 4, 12, tzinfo=UTC)
    row = DeviceRow(
        device_id="gw-1", name="another name", site="elsewhere", status=DeviceHealth.OFFLINE,
        since=seen_at, score=1, cpu_percent=12.0, ram_percent=34.0, disk_percent=56.0,
        connectors_running=9, connectors_total=9, last_seen_at=seen_at, hostname="", addresses=[],
        uptime_s=1, tags={},
    )  # fmt: skip
    fleet.refresh([row, msgspec.structs.replace(row, device_id="gw-unknown")])
    (device,) = fleet.devices()
    assert device == msgspec.structs.replace(
        state("gw-1"),
        last_heartbeat_at=seen_at,
        cpu_percent=12.0,
        ram_percent=34.0,
        disk_percent=56.0,
    )
