"""The `fleet` command as a user starts it: a process of its own, in a process group of its own.

Whatever it starts is found afterwards by a mark in the environment or by its directory on the
command line, so that a test can say that nothing was left behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import termios
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from tests.fixtures.brokers import free_port
from tests.fixtures.eventually import eventually

READY = "ready after"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 40.0
_MARK = "MQTT_FLEET_TEST_MARK"
_REPOSITORY = Path(__file__).resolve().parents[2]


class Command:
    """One run of `fleet`, and everything it has started."""

    def __init__(
        self,
        arguments: list[str],
        directory: Path,
        environment: Mapping[str, str],
        terminal: int | None,
    ) -> None:
        self._mark = uuid.uuid4().hex
        self._directory = directory
        self._files = {name: directory / f"{self._mark}.{name}" for name in ("out", "err")}
        inherited = {name: text for name, text in os.environ.items() if name[:6] != "FLEET_"}
        with self._files["out"].open("wb") as out, self._files["err"].open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "fleet_cli", *arguments],
                env={**inherited, "PYTHONPATH": str(_REPOSITORY), **environment, _MARK: self._mark},
                cwd=_REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=out if terminal is None else terminal,
                stderr=err,
                start_new_session=True,
            )

    @property
    def out(self) -> str:
        """What it has written to stdout."""
        return self._files["out"].read_text()

    @property
    def err(self) -> str:
        """What it has written to stderr."""
        return self._files["err"].read_text()

    def last_object(self) -> Any:
        """The JSON object in the last line of stdout."""
        return json.loads(self.out.splitlines()[-1])

    def envelope(self) -> Any:
        """The error envelope in the last line of stderr."""
        return json.loads(self.err.splitlines()[-1])

    async def ready(self) -> None:
        """Wait until it says that it is ready."""
        await self.appears(lambda: READY in self.err)

    async def appears(self, condition: Any) -> None:
        """Wait for a condition while it runs; fails with what it said when it ends before."""

        def met() -> bool:
            code = self.process.poll()
            if code is not None and not condition():
                raise RuntimeError(f"ended with {code}: {self.err}")
            return bool(condition())

        await eventually(met, START_TIMEOUT_S)

    def interrupt(self) -> None:
        """Ctrl-C in a terminal: SIGINT to the whole process group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGINT)

    async def ended(self) -> int:
        """Wait for its end; gives the exit code."""
        await eventually(lambda: self.process.poll() is not None, STOP_TIMEOUT_S)
        return self.process.returncode

    def left(self) -> list[str]:
        """Every process that it started and that lives, as a line for people."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE and self._is_ours(process):
                    found.append(f"{process.pid} {' '.join(process.cmdline())}")
        return found

    def kill_all(self) -> None:
        """End everything, whatever the test did."""
        for line in self.left():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(line.split()[0]), signal.SIGKILL)
        self.process.wait(STOP_TIMEOUT_S)

    def _is_ours(self, process: psutil.Process) -> bool:
        if process.environ().get(_MARK) == self._mark:
            return True
        return any(str(self._directory) in word for word in process.cmdline())


@contextlib.contextmanager
def fleet(
    *arguments: str, directory: Path, terminal: int | None = None, **environment: str
) -> Iterator[Command]:
    """Start `fleet ARGUMENTS`; what it starts has `directory` on its command line or our mark.

    `terminal` is a file descriptor that takes the place of stdout.
    """
    command = Command(list(arguments), directory, environment, terminal)
    try:
        yield command
    finally:
        command.kill_all()


def up_arguments(data_directory: Path, port: int | None = None) -> list[str]:
    """`fleet up` in `data_directory`, by default on a port that is free."""
    return ["up", "--data-dir", str(data_directory), "--port", str(port or free_port())]


def is_empty(directory: Path) -> bool:
    """Whether nothing lies in `directory`."""
    return not any(directory.iterdir())


def is_there(path: Path) -> bool:
    """Whether something has that name."""
    return path.exists()


def is_locked(data_directory: Path) -> bool:
    """Whether somebody owns the data directory."""
    with (data_directory / "lock").open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


class Terminal:
    """A pseudo-terminal: `inside` is for the command, `text` is what it has shown."""

    def __init__(self, outside: int, inside: int) -> None:
        self.inside = inside
        self._outside = outside
        self._shown = b""

    @property
    def text(self) -> str:
        """Everything that was ever shown, control sequences included."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._outside, 65_536):
                self._shown += data
        return self._shown.decode(errors="replace")


@contextlib.contextmanager
def terminal(rows: int = 40, columns: int = 120) -> Iterator[Terminal]:
    """A terminal nobody sits at."""
    outside, inside = os.openpty()
    os.set_blocking(outside, False)
    termios.tcsetwinsize(inside, (rows, columns))
    try:
        yield Terminal(outside, inside)
    finally:
        os.close(outside)
        os.close(inside)


@contextlib.contextmanager
def listening() -> Iterator[int]:
    """A port that is taken."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield int(other.getsockname()[1])
