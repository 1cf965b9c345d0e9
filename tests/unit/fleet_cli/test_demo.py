from __future__ import annotations

from contextlib import nullcontext
from datetime import datetime, timedelta

import pytest

from fleet_cli.demo import Simulation, conclude
from fleet_cli.errors import CommandFailed
from fleet_cli.formats import OutputFormat
from fleet_cli.observation import Observation
from fleet_core.contract.operations import FleetSummary, Usage
from fleet_core.runtime.clock import now_utc

NOTHING = Usage(mean_percent=None, peak_percent=None)


def summary(by_status: dict[str, int], first_at: datetime | None = None) -> FleetSummary:
    return FleetSummary(
        devices=sum(by_status.values()),
        by_status=by_status,
        health_percent=None,
        cpu=NOTHING,
        ram=NOTHING,
        disk=NOTHING,
        heartbeats_stored=12,
        dead_letters=0,
        first_heartbeat_at=first_at,
        processes=[],
    )


def observed(wanted: int, by_status: dict[str, int]) -> Observation:
    observation = Observation(wanted)
    observation.take(summary(by_status))
    return observation


def test_a_simulation_has_hot_devices_and_a_silent_one() -> None:
    arguments = Simulation(devices=25, interval_s=10, seed=1).arguments()
    assert arguments[arguments.index("--hot") + 1] == "12.0"
    assert arguments[arguments.index("--silent") + 1] == "4.0"


def test_two_devices_are_too_few_for_one_to_be_silent() -> None:
    arguments = Simulation(devices=2, interval_s=10, seed=1).arguments()
    assert arguments[arguments.index("--silent") + 1] == "0.0"


def test_every_status_is_in_the_report() -> None:
    report = observed(4, {"online": 2, "warning": 1, "offline": 1}).report()
    counts = (report.online, report.warning, report.offline, report.updating, report.unseen)
    assert counts == (2, 1, 1, 0, 0)
    assert report.devices == 4
    assert report.rss_mb > 0


def test_a_report_before_the_first_look_is_of_a_fleet_nobody_has_seen() -> None:
    report = Observation(5).report()
    assert (report.devices, report.seconds_to_first_heartbeat, report.rss_mb) == (0, None, 0)


def test_a_first_heartbeat_of_an_earlier_run_does_not_count() -> None:
    observation = Observation(1)
    observation.take(summary({"online": 1}, now_utc() - timedelta(days=1)))
    assert observation.report().seconds_to_first_heartbeat is None
    observation.take(summary({"online": 1}, now_utc()))
    assert (observation.report().seconds_to_first_heartbeat or 0) > 0


@pytest.mark.parametrize(
    ("by_status", "interrupted", "code"),
    [
        ({"online": 2, "offline": 1}, False, None),
        ({"online": 2, "offline": 1}, True, None),
        ({"online": 2, "unseen": 1}, False, "partial_failure"),
        ({"online": 2, "unseen": 1}, True, "interrupted"),
        ({"unseen": 3}, False, "all_failed"),
        ({}, True, "interrupted"),
    ],
)
def test_how_a_demo_ends(by_status: dict[str, int], interrupted: bool, code: str | None) -> None:
    report = observed(3, by_status).report()
    with pytest.raises(CommandFailed) if code else nullcontext() as failure:
        conclude(report, OutputFormat.JSON, interrupted=interrupted)
    assert (failure.value.code if failure else None) == code
