"""The README's tour: nothing, a platform, a registered device, a real agent, trouble, recovery.

The real `fleet` and `fleet-agent` processes, on both brokers.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.acceptance.commands import fleet
from tests.fixtures.brokers import free_port
from tests.fixtures.eventually import eventually

DEVICE = "lab-laptop"
INTERVAL_S = 10
WILL_RECHECK_S = 5


class Operator:
    """Runs `fleet` commands against one broker and reads their JSON."""

    def __init__(self, url: str) -> None:
        inherited = {name: text for name, text in os.environ.items() if name[:6] != "FLEET_"}
        self._environment = {**inherited, "FLEET_BROKER_URL": url}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "fleet_cli", *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def json(self, *arguments: str) -> Any:
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def status_of(self, device_id: str) -> str:
        return str(self.json("device", "show", device_id)["device"]["status"])


@contextlib.contextmanager
def agent(install_command: str, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the line that `fleet device register` printed, as a user would paste it."""
    words = shlex.split(install_command)
    assignments = [word for word in words if "=" in word and not word.startswith("-")]
    given = dict(word.split("=", 1) for word in assignments)
    command = [word for word in words if word not in assignments]
    assert command == ["fleet-agent", "run"]
    with (directory / "agent.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "device_agent", *command[1:]],
            env={
                **os.environ,
                **given,
                "FLEET_AGENT_DATA_DIR": str(directory / "agent"),
                "HEARTBEAT_INTERVAL": str(INTERVAL_S),
            },
            stderr=log,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@contextlib.contextmanager
def busy_processors() -> Iterator[None]:
    """Keep every processor busy."""
    burning = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
        for _ in range(2 * (psutil.cpu_count() or 1))
    ]
    try:
        yield
    finally:
        for process in burning:
            process.kill()
            process.wait()


@pytest.mark.parametrize(
    "broker", ["embedded", pytest.param("mosquitto", marks=pytest.mark.mosquitto)]
)
async def test_from_nothing_to_a_device_that_is_ill_and_gone(
    broker: str, data_directory: Path
) -> None:
    port = free_port()
    url = f"mqtt://127.0.0.1:{port}"
    arguments = ("up", "--data-dir", str(data_directory / "platform"), "--port", str(port))
    with fleet(*arguments, "--broker", broker, directory=data_directory) as platform:
        await platform.ready()
        operator = Operator(url)
        assert operator.json("device", "list") == []

        registered = operator.json("device", "register", DEVICE, "--site", "home", "--tag", "a=b")
        assert registered["device_id"] == DEVICE
        again = operator.run("device", "register", DEVICE, "--site", "home")
        assert again.returncode == 5
        assert operator.status_of(DEVICE) == "unseen"

        with agent(registered["install_command"], data_directory) as device:
            await eventually(lambda: operator.status_of(DEVICE) != "unseen", 20)
            shown = operator.json("device", "show", DEVICE)
            assert shown["device"]["site"] == "home"
            assert shown["device"]["tags"] == {"a": "b"}
            assert shown["info"]["hostname"] == os.uname().nodename
            assert shown["metrics"]["ram_total_bytes"] == psutil.virtual_memory().total

            with busy_processors():
                await eventually(lambda: operator.status_of(DEVICE) == "warning", 4 * INTERVAL_S)

            device.send_signal(signal.SIGKILL)
            await eventually(
                lambda: operator.status_of(DEVICE) == "offline", WILL_RECHECK_S + INTERVAL_S
            )

        with agent(registered["install_command"], data_directory):
            # Whether it is well then is for the machine that runs this test to say.
            await eventually(lambda: operator.status_of(DEVICE) in ("online", "warning"), 20)
        events = operator.json("device", "events", DEVICE, "--kind", "device.status")
        story = [(event["data"]["to"], event["data"]["reason"]) for event in reversed(events)]
        assert ("warning", "score") in story
        assert ("offline", "will") in story
        assert story.index(("warning", "score")) < story.index(("offline", "will"))

        summary = operator.json("status")
        assert summary["devices"] == 1
        assert {row["role"] for row in summary["processes"]} == {"ingest", "presence", "operator"}
        assert all(row["state"] == "online" for row in summary["processes"])
        assert operator.json("dead-letters", "list") == []

        platform.interrupt()
        assert await platform.ended() == 0
        assert platform.left() == []
