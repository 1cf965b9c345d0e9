"""Fixtures every lane shares: an embedded PostgreSQL, and a fresh migrated database per test.

One server serves the whole session. The schema is migrated once, into a template database; each
test gets a clone of it under the application's own role, so that a test never sees another's rows
and never holds rights that production does not have.

With FLEET_TEST_REQUIRE_ALL in the environment (`.ci/run`) a skipped test is a failed one.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import psycopg
import pytest
from hypothesis import settings
from psycopg import sql

from fleet_core.runtime import postgres

TEMPLATE = "fleet_template"
_numbers = itertools.count(1)


# Enough to notice a mistake on every run; `pytest --hypothesis-profile=thorough` searches.
settings.register_profile("quick", max_examples=30, deadline=None)
settings.register_profile("thorough", max_examples=1000, deadline=None)
settings.load_profile("quick")

REQUIRE_ALL = bool(os.environ.get("FLEET_TEST_REQUIRE_ALL"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skipped test is a failed one where every lane is required."""
    report = yield
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a module that skips itself."""
    report = yield
    if REQUIRE_ALL and report.outcome == "skipped":
        report.outcome = "failed"
    return report


@contextlib.contextmanager
def temporary_directory() -> Iterator[Path]:
    """A directory a server started by root may enter, unlike pytest's own; gone at the end."""
    directory = Path(tempfile.mkdtemp(prefix="mqtt-fleet-test-"))
    directory.chmod(0o711)
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


@pytest.fixture
def data_directory() -> Iterator[Path]:
    """An empty data directory for `fleet up` and what else keeps a database in it."""
    with temporary_directory() as directory:
        yield directory


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Postgres]:
    """The embedded PostgreSQL of this test session, with an empty application database."""
    with temporary_directory() as directory, postgres.serve(directory) as server:
        yield server


@pytest.fixture
def empty_database_url(postgres_server: postgres.Postgres) -> Iterator[str]:
    """A database of the application's role without any table: what a migration starts from."""
    with _database(postgres_server, "template1") as url:
        yield url


@pytest.fixture
def database_url(postgres_server: postgres.Postgres, migrated_template: str) -> Iterator[str]:
    """A migrated database of this test's own, owned by the application's role."""
    with _database(postgres_server, migrated_template) as url:
        yield url


@pytest.fixture(scope="session")
def migrated_template(postgres_server: postgres.Postgres) -> str:
    """The name of the database that tests are cloned from."""
    from fleet_core.registry.migrate import migrate

    _administer(postgres_server, "CREATE DATABASE {} OWNER {}", TEMPLATE, postgres.ROLE)
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(migrate(postgres_server.url(TEMPLATE)))
    return TEMPLATE


@contextlib.contextmanager
def _database(server: postgres.Postgres, template: str) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    _administer(server, "CREATE DATABASE {} OWNER {} TEMPLATE {}", name, postgres.ROLE, template)
    try:
        yield server.url(name)
    finally:
        _administer(server, "DROP DATABASE {} WITH (FORCE)", name)


def _administer(server: postgres.Postgres, statement: str, *names: str) -> None:
    url = server.url("postgres", postgres.SUPERUSER)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))
