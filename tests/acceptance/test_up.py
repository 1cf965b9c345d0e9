"""`fleet up` as a user starts, interrupts, kills and starts it again."""

from __future__ import annotations

import os
import re
import shutil
import signal
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

import psutil
import pytest

from tests.acceptance.commands import Command, fleet, is_locked, is_there, listening, up_arguments
from tests.fixtures.brokers import accepts_connections, free_port
from tests.fixtures.eventually import eventually


def nothing_left(command: Command, data_directory: Path) -> None:
    assert command.left() == []
    assert not is_locked(data_directory)


def child(command: Command, *words: str) -> psutil.Process | None:
    """The process below `fleet up` whose command line ends with `words`."""
    for process in psutil.Process(command.process.pid).children():
        with suppress(psutil.Error):
            if all(word in process.cmdline() for word in words):
                return process
    return None


async def test_up_says_what_runs_and_ends_well_on_ctrl_c(data_directory: Path) -> None:
    port = free_port()
    with fleet(*up_arguments(data_directory, port), directory=data_directory) as command:
        await command.ready()
        assert accepts_connections(port)
        for word in (f"mqtt://127.0.0.1:{port}", "this machine only", "Ctrl-C", "ingest"):
            assert word in command.err
        assert command.out == ""
        command.interrupt()
        assert await command.ended() == 0
        nothing_left(command, data_directory)
        assert not accepts_connections(port)


async def test_a_long_directory_leaves_no_socket_behind(data_directory: Path) -> None:
    directory = data_directory / ("d" * 120)
    with fleet(*up_arguments(directory), directory=data_directory) as command:
        await command.ready()
        (socket_directory,) = re.findall(r"host=(\S+)", command.err)
        socket_path = Path(unquote(socket_directory))
        assert is_there(socket_path)
        assert not socket_path.is_relative_to(directory)
        command.interrupt()
        assert await command.ended() == 0
        assert not is_there(socket_path)


async def test_sigterm_ends_it_as_well(data_directory: Path) -> None:
    with fleet(*up_arguments(data_directory), directory=data_directory) as command:
        await command.ready()
        command.process.terminate()
        assert await command.ended() == 0
        nothing_left(command, data_directory)


async def test_a_second_up_on_the_same_directory_is_refused(data_directory: Path) -> None:
    with fleet(*up_arguments(data_directory), directory=data_directory) as first:
        await first.ready()
        with fleet(*up_arguments(data_directory), directory=data_directory) as second:
            assert await second.ended() == 5
            assert second.envelope()["code"] == "conflict"
            assert "in use" in second.envelope()["message"]
            assert first.process.poll() is None


@pytest.mark.parametrize(
    "sign",
    [
        "lock",
        "postgresql/cluster.new",
        "postgresql/cluster",
        "logs/postgresql.log",
        "logs/migrate.log",
        "logs/broker.log",
        "logs/operator.log",
    ],
)
async def test_ctrl_c_during_start_up_leaves_nothing(data_directory: Path, sign: str) -> None:
    port = free_port()
    with fleet(*up_arguments(data_directory, port), directory=data_directory) as command:
        await command.appears((data_directory / sign).exists)
        command.interrupt()
        assert await command.ended() == 0
        nothing_left(command, data_directory)
        assert not accepts_connections(port)


async def test_an_impatient_second_ctrl_c_leaves_nothing_either(data_directory: Path) -> None:
    with fleet(*up_arguments(data_directory), directory=data_directory) as command:
        await command.ready()
        command.interrupt()
        await command.appears(lambda: "stopping" in command.err)
        command.interrupt()
        assert await command.ended() == 0
        nothing_left(command, data_directory)


async def test_a_killed_up_takes_its_children_along_and_can_be_started_again(
    data_directory: Path,
) -> None:
    port = free_port()
    with fleet(*up_arguments(data_directory, port), directory=data_directory) as killed:
        await killed.ready()
        killed.process.kill()
        with fleet(*up_arguments(data_directory, port), directory=data_directory) as command:
            await command.ready()
            command.interrupt()
            assert await command.ended() == 0
            nothing_left(command, data_directory)


async def test_nothing_but_postgresql_outlives_a_killed_up(data_directory: Path) -> None:
    with fleet(*up_arguments(data_directory), directory=data_directory) as command:
        await command.ready()
        command.process.kill()

        def only_postgresql() -> bool:
            left = command.left()
            return all("postgres" in line for line in left) and (
                not left or shutil.which("setpriv") is None
            )

        await eventually(only_postgresql, 20)


@pytest.mark.parametrize("words", [("run", "ingest"), ("broker",), ("postgres",)])
async def test_a_killed_child_is_started_again(
    data_directory: Path, words: tuple[str, ...]
) -> None:
    with fleet(*up_arguments(data_directory), directory=data_directory) as command:
        await command.ready()
        needle = words if words != ("postgres",) else (str(data_directory / "postgresql/cluster"),)
        before = child(command, *needle)
        assert before is not None
        os.kill(before.pid, signal.SIGKILL)

        def is_back() -> bool:
            after = child(command, *needle)
            return after is not None and after.pid != before.pid

        await eventually(is_back, 20)
        command.interrupt()
        assert await command.ended() == 0
        nothing_left(command, data_directory)


async def test_a_taken_port_is_a_conflict_with_a_hint(data_directory: Path) -> None:
    with (
        listening() as port,
        fleet(*up_arguments(data_directory, port), directory=data_directory) as command,
    ):
        assert await command.ended() == 5
        assert "--port" in command.envelope()["hint"]
        nothing_left(command, data_directory)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.org"])  # noqa: S104
async def test_an_address_others_can_reach_is_refused(data_directory: Path, host: str) -> None:
    arguments = ["up", "--data-dir", str(data_directory / "data")]
    url = f"mqtt://{host}:1883"
    with fleet(*arguments, directory=data_directory, FLEET_BROKER_URL=url) as command:
        assert await command.ended() == 2
        assert "not loopback" in command.envelope()["message"]
        assert not is_there(data_directory / "data")


async def test_a_role_that_does_not_exist_is_refused(data_directory: Path) -> None:
    arguments = [*up_arguments(data_directory), "--handlers", "ingest,nonsense"]
    with fleet(*arguments, directory=data_directory) as command:
        assert await command.ended() == 2
        assert "operator" in command.envelope()["hint"]


@pytest.mark.mosquitto
async def test_mosquitto_instead_of_the_embedded_broker(data_directory: Path) -> None:
    port = free_port()
    arguments = [*up_arguments(data_directory, port), "--broker", "mosquitto"]
    with fleet(*arguments, directory=data_directory) as command:
        await command.ready()
        assert accepts_connections(port)
        command.interrupt()
        assert await command.ended() == 0
        nothing_left(command, data_directory)
