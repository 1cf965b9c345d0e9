"""The table of design §5, edge by edge."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_core.contract.messages import Connector, ConnectorStatus
from fleet_core.rules.health import Band, Thresholds, running, score
from tests.fixtures.store import metrics

PUBLISHED = Thresholds()
RUNNING = Connector(name="a", status=ConnectorStatus.RUNNING)
STOPPED = Connector(name="b", status=ConnectorStatus.STOPPED)
percents = st.floats(0, 100)
connector_lists = st.lists(st.builds(Connector, name=st.just("c"), status=...), max_size=8)


@pytest.mark.parametrize(
    ("cpu", "expected"),
    [(0, 100), (69.999, 100), (70, 85), (80, 85), (90, 85), (90.001, 70), (100, 70)],
)
def test_cpu(cpu: float, expected: int) -> None:
    assert score(metrics(cpu=cpu), [], PUBLISHED) == expected


@pytest.mark.parametrize(
    ("ram", "expected"), [(0, 100), (74.999, 100), (75, 90), (90, 90), (90.001, 75), (100, 75)]
)
def test_ram(ram: float, expected: int) -> None:
    assert score(metrics(ram=ram), [], PUBLISHED) == expected


@pytest.mark.parametrize(
    ("disk", "expected"), [(0, 100), (79.999, 100), (80, 90), (90, 90), (90.001, 75), (100, 75)]
)
def test_disk(disk: float, expected: int) -> None:
    assert score(metrics(disk=disk), [], PUBLISHED) == expected


@pytest.mark.parametrize(
    ("up", "down", "expected"),
    [
        (0, 0, 100),
        (3, 0, 100),
        (0, 1, 80),
        (1, 1, 90),
        (4, 1, 96),
        (2, 1, 93),  # 93.33: down
        (1, 2, 86),  # 86.67: down
        (255, 1, 99),  # 99.92: down
    ],
)
def test_connectors_cost_by_the_fraction_that_is_not_running(
    up: int, down: int, expected: int
) -> None:
    assert score(metrics(), [RUNNING] * up + [STOPPED] * down, PUBLISHED) == expected


@pytest.mark.parametrize("status", [s for s in ConnectorStatus if s is not ConnectorStatus.RUNNING])
def test_only_running_counts_as_running(status: ConnectorStatus) -> None:
    connectors = [RUNNING, Connector(name="x", status=status)]
    assert running(connectors) == 1
    assert score(metrics(), connectors, PUBLISHED) == 90


def test_everything_at_its_worst_is_zero() -> None:
    assert score(metrics(100, 100, 100), [STOPPED], PUBLISHED) == 0


def test_penalties_beyond_a_hundred_end_at_zero() -> None:
    harsh = Thresholds(cpu=Band(10, 20, 90, 95), connectors_penalty=100)
    assert score(metrics(100, 100, 100), [STOPPED], harsh) == 0


def test_thresholds_are_what_they_are_told_to_be() -> None:
    assert score(metrics(cpu=50), [], Thresholds(cpu=Band(50, 50, 1, 7))) == 99
    assert score(metrics(cpu=50.1), [], Thresholds(cpu=Band(50, 50, 1, 7))) == 93


@given(percents, percents, percents, connector_lists)
def test_the_score_is_a_whole_number_from_0_to_100(
    cpu: float, ram: float, disk: float, connectors: list[Connector]
) -> None:
    result = score(metrics(cpu, ram, disk), connectors, PUBLISHED)
    assert isinstance(result, int)
    assert 0 <= result <= 100


@given(percents, percents, percents, st.floats(0, 100), connector_lists)
def test_more_load_never_raises_the_score(
    cpu: float, ram: float, disk: float, more: float, connectors: list[Connector]
) -> None:
    before = score(metrics(cpu, ram, disk), connectors, PUBLISHED)
    assert score(metrics(max(cpu, more), ram, disk), connectors, PUBLISHED) <= before
    assert score(metrics(cpu, max(ram, more), disk), connectors, PUBLISHED) <= before
    assert score(metrics(cpu, ram, max(disk, more)), connectors, PUBLISHED) <= before
