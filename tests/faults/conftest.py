"""Fixtures of the fault tests: the seed, brokers of both kinds, and a PostgreSQL to be hurt."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.brokers import RunningBroker, start_embedded, start_mosquitto
from tests.fixtures.platform import RunningPostgres, run_postgres

SEED_NAME = "FLEET_TEST_SEED"
DEFAULT_SEED = 20_260_301
SEED = int(os.environ.get(SEED_NAME, DEFAULT_SEED))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure prints its seed."""
    report = yield
    if report.failed:
        report.sections.append(("Seed", f"{SEED_NAME}={SEED}"))
    return report


@pytest.fixture
def seed() -> int:
    """What every dice of a scenario is made from; `FLEET_TEST_SEED` replaces it."""
    return SEED


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[RunningBroker]:
    with start_mosquitto(tmp_path / "broker") as broker:
        yield broker


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[RunningBroker]:
    with start_embedded(tmp_path / "broker") as broker:
        yield broker


@pytest.fixture(params=[start_mosquitto, start_embedded], ids=["mosquitto", "embedded"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RunningBroker]:
    with request.param(tmp_path / "broker") as running:
        yield running


@pytest.fixture(scope="session")
def fragile_server() -> Iterator[RunningPostgres]:
    """A PostgreSQL that tests may kill; the session's own serves everybody else."""
    with run_postgres() as server:
        yield server


@contextmanager
def _healed(server: RunningPostgres) -> Iterator[RunningPostgres]:
    try:
        yield server
    finally:
        if not server.running:
            server.start()


@pytest.fixture
def postgres(fragile_server: RunningPostgres) -> Iterator[RunningPostgres]:
    """A PostgreSQL to be hurt; running and writable again after the test."""
    with _healed(fragile_server) as server:
        yield server


@pytest.fixture
def fragile_url(postgres: RunningPostgres) -> Iterator[str]:
    """A migrated database on it."""
    with postgres.database() as url:
        yield url
        if not postgres.running:
            postgres.start()
