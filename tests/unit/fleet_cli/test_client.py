"""The parts of a session that need no broker."""

from __future__ import annotations

import re

import pytest

from fleet_cli.client import check_target, client_id
from fleet_cli.errors import UsageFailed
from fleet_cli.plain import to_plain
from fleet_core.contract.messages import DeviceHealth, LiveDevice
from fleet_core.runtime.clock import now_utc


def test_a_client_id_is_the_operator_and_eight_digits() -> None:
    first, second = client_id("operator.alice"), client_id("operator.alice")
    assert re.fullmatch(r"operator\.alice~[0-9a-f]{8}", first)
    assert first != second


@pytest.mark.parametrize("url", ["mqtt://127.0.0.1", "mqtt://localhost:2000", "mqtt://[::1]:1883"])
def test_this_machine_may_be_asked(url: str) -> None:
    assert str(check_target(url, "operator.local")).startswith("mqtt://")


@pytest.mark.parametrize("url", ["mqtt://192.0.2.1", "mqtt://example.org", "tcp://[", ""])
def test_others_may_not(url: str) -> None:
    with pytest.raises(UsageFailed):
        check_target(url, "operator.local")


@pytest.mark.parametrize("operator", ["", "alice", "operator.", "operator.A", "operator.a/#"])
def test_an_operator_has_a_valid_id(operator: str) -> None:
    with pytest.raises(UsageFailed):
        check_target("mqtt://127.0.0.1", operator)


def test_plain_values_are_complete() -> None:
    """The wire leaves defaults out; a program that reads our JSON can rely on every key."""
    device = LiveDevice(
        device_id="gw-1", name="n", site="s", status=DeviceHealth.ONLINE, since=now_utc()
    )
    assert set(to_plain(device)) == set(LiveDevice.__struct_fields__)
