from __future__ import annotations

import json

import pytest

from fleet_core.contract.topics import Kind, is_valid_id
from simulator.__main__ import main
from simulator.roster import roster


def test_the_same_seed_gives_the_same_fleet_and_another_seed_another() -> None:
    first = roster(200, 7, silent_percent=10, hot_percent=5)
    assert roster(200, 7, silent_percent=10, hot_percent=5) == first
    assert roster(200, 8, silent_percent=10, hot_percent=5) != first


def test_a_larger_fleet_begins_with_the_smaller_one() -> None:
    assert roster(500, 7)[:100] == roster(100, 7)


def test_shares_are_exact_and_nobody_is_both() -> None:
    devices = roster(200, 1, silent_percent=10, hot_percent=5)
    assert sum(device.silent for device in devices) == 20
    assert sum(device.hot for device in devices) == 10
    assert not any(device.hot and device.silent for device in devices)


def test_more_than_everybody_is_everybody() -> None:
    devices = roster(10, 1, silent_percent=100, hot_percent=100)
    assert all(device.silent and not device.hot for device in devices)


def test_ids_follow_the_grammar_and_sites_and_tags_vary() -> None:
    devices = roster(100, 1, prefix="lab-a")
    assert devices[0].device_id == "lab-a-00001"
    assert all(is_valid_id(Kind.DEVICES, device.device_id) for device in devices)
    assert len({device.site for device in devices}) >= 5
    assert {key for device in devices for key in device.tags} == {"env", "hardware"}


def test_list_writes_one_json_line_per_device(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--devices", "3", "--list", "--seed", "4"]) == 0
    written = capsys.readouterr()
    rows = [json.loads(line) for line in written.out.splitlines()]
    assert [row["device_id"] for row in rows] == ["sim-00001", "sim-00002", "sim-00003"]
    assert all(set(row) == {"device_id", "name", "site", "tags"} for row in rows)
    assert written.err == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--interval", "0"],
        ["--interval", "301"],
        ["--devices", "0"],
        ["--churn", "-1"],
        ["--hot", "101"],
        ["--prefix", "Not/A/Prefix"],
        ["--ramp", "nan"],
    ],
)
def test_a_bad_option_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().out == ""


def test_only_a_broker_on_this_machine_is_accepted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--url", "mqtt://192.0.2.1"]) == 2
    assert "not on this machine" in capsys.readouterr().err
