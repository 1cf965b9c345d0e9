"""One suite, two storage profiles: embedded PostgreSQL, and TimescaleDB in WebAssembly.

- `registry` and `storage` run a test on both; `plain_registry` is for what needs two connections.
- Every named statement that a test executes is noted; `test_statements.py`, which runs last, asks
  whether the suite executed all of them on both.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import psycopg
import pytest
from psycopg import sql

from fleet_core.contract.errors import ConfigError
from fleet_core.registry.migrate import Profile, migrate
from fleet_core.registry.noun import Noun
from fleet_core.registry.store import Registry, open_registry
from fleet_core.runtime import postgres
from tests.fixtures.timescale import reset_schema, start_timescale

SCHEMA = "postgres"
"""First in the search path of the WebAssembly server's only user, which settings can't change."""
LAST = "test_statements.py"
TABLES = (
    "device_state",
    "devices",
    "sites",
    "tenants",
    "heartbeats",
    "device_events",
    "dead_letters",
    "outbox",
    "live_changes",
    "operator_requests",
    "services",
    "listeners",
    "counters",
)
"""All that migrations make; what refers to another comes first."""
PROFILES = [
    pytest.param(Profile.PLAIN, marks=pytest.mark.postgres),
    pytest.param(Profile.TIMESCALE, marks=pytest.mark.timescale),
]


class Storage(msgspec.Struct, frozen=True):
    """A database of one profile; `pool_size` connections may be open at once."""

    profile: Profile
    url: str
    pool_size: int


class Executed(msgspec.Struct):
    """Statements the suite executed: profile, noun, name."""

    statements: set[tuple[Profile, str, str]] = set()


@pytest.fixture(scope="session")
def executed() -> Executed:
    """What the suite has executed so far."""
    return Executed()


@pytest.fixture(scope="session")
def timescale_server() -> Iterator[str]:
    """The server of this suite, with the schema its tables go to."""
    with start_timescale() as dsn:
        with psycopg.connect(dsn, autocommit=True) as connection:
            reset_schema(connection, SCHEMA)
        yield dsn


@pytest.fixture(params=PROFILES)
def empty_storage(request: pytest.FixtureRequest) -> Storage:
    """A database without any table of ours."""
    if request.param is Profile.PLAIN:
        return Storage(Profile.PLAIN, request.getfixturevalue("empty_database_url"), 4)
    url = request.getfixturevalue("timescale_server")
    with psycopg.connect(url, autocommit=True) as connection:
        reset_schema(connection, SCHEMA)
    return Storage(Profile.TIMESCALE, url, 1)


@pytest.fixture(scope="session")
def shared_database_url(
    postgres_server: postgres.Postgres, migrated_template: str
) -> Iterator[str]:
    """A migrated database for the whole suite: to empty it is faster than to make another."""
    administrator = postgres_server.url("postgres", postgres.SUPERUSER)
    names = [sql.Identifier(n) for n in ("registry_suite", postgres.ROLE, migrated_template)]
    with psycopg.connect(administrator, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {}").format(*names))
        yield postgres_server.url("registry_suite")
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(names[0]))


@pytest.fixture(params=PROFILES)
def storage(request: pytest.FixtureRequest) -> Storage:
    """A migrated database without rows."""
    if request.param is Profile.PLAIN:
        url = request.getfixturevalue("shared_database_url")
        _empty(url, "DELETE FROM {}")
        return Storage(Profile.PLAIN, url, 4)
    url = request.getfixturevalue("timescale_server")
    _migrated(url)
    _empty(url, "TRUNCATE {} CASCADE")
    return Storage(Profile.TIMESCALE, url, 1)


def _migrated(url: str) -> None:
    """Migrate, from the beginning if a test of migrations left something odd behind."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        try:
            runner.run(migrate(url))
        except ConfigError:
            with psycopg.connect(url, autocommit=True) as connection:
                reset_schema(connection, SCHEMA)
            runner.run(migrate(url))


def _empty(url: str, statement: str) -> None:
    """No rows, but for the tenant a migration made."""
    with psycopg.connect(url) as connection:
        for table in TABLES:
            connection.execute(sql.SQL(statement).format(sql.Identifier(table)))
        connection.execute("INSERT INTO tenants (tenant_id) VALUES ('default')")


@pytest.fixture
async def registry(
    storage: Storage, executed: Executed, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Registry]:
    """The registry, on both profiles."""
    statement = Noun._statement

    def noted(self: Noun, name: str) -> bytes:
        executed.statements.add((storage.profile, self.sql_file, name))
        return statement(self, name)

    monkeypatch.setattr(Noun, "_statement", noted)
    async with open_registry(storage.url, pool_size=storage.pool_size) as opened:
        yield opened


@pytest.fixture
async def plain_registry(database_url: str) -> AsyncIterator[Registry]:
    """The registry on PostgreSQL alone, with connections for several transactions at once."""
    async with open_registry(database_url, pool_size=4) as opened:
        yield opened


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The question about all statements comes last, and only if the whole suite is run."""
    here = Path(__file__).parent
    ours = [item for item in items if item.path.parent == here]
    last = [item for item in ours if item.path.name == LAST]
    whole = {item.path.name for item in ours} == {path.name for path in here.glob("test_*.py")}
    chosen = any("::" in argument for argument in config.args)
    chosen = chosen or config.option.keyword or config.option.markexpr
    for item in last:
        items.remove(item)
    if whole and not chosen:
        items.extend(last)
