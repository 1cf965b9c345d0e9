"""The agent as a process, against a real Mosquitto, with the test in the part of the platform."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import msgspec
import psutil
import pytest

from fleet_core.contract.codec import decode, encode
from fleet_core.contract.enrolment import EnrolmentCode, encode_code
from fleet_core.contract.messages import (
    DeviceStatus,
    EventBatch,
    Farewell,
    Heartbeat,
    Receipt,
)
from fleet_core.contract.topics import (
    DEVICE_EVENTS,
    DEVICE_HEARTBEAT,
    DEVICE_RECEIPTS,
    DEVICE_STATUS,
    parse,
)
from fleet_core.runtime.mqtt import Address, Connection, Publication, connect
from simulator.behaviour import AWAY_S, HEARTBEATS_BEFORE_SILENCE
from tests.fixtures.brokers import RunningBroker, start_mosquitto
from tests.fixtures.eventually import eventually

pytestmark = pytest.mark.mosquitto

REPOSITORY = Path(__file__).resolve().parents[2]
DEVICE = "gw-0001"
MEMORY_LIMIT_BYTES = 45_000_000
CPU_TOLERANCE_PERCENT = 35.0
"""What two measures of one second may differ by on a small machine that others load as well."""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RunningBroker]:
    with start_mosquitto(tmp_path / "broker") as running:
        yield running


class AgentProcess:
    """`fleet-agent run` on a data directory of its own, started as often as a test likes."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self.directory = directory / "agent"
        self._log = directory / "agent.log"
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the agent was not started"
        return self._process

    def start(self, *more: str, environment: dict[str, str] | None = None) -> None:
        known = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME")}
        told = self._environment if environment is None else environment
        command = [sys.executable, "-m", "device_agent", "run", "--data-dir", str(self.directory)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *more], cwd=REPOSITORY, env={**known, **told}, stdout=log, stderr=log
            )

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(10)

    def spooled_boots(self) -> set[str]:
        with contextlib.closing(sqlite3.connect(self.directory / "spool.sqlite3")) as spool:
            return {boot_id for (boot_id,) in spool.execute("SELECT boot_id FROM records")}

    def log_text(self) -> str:
        return self._log.read_text(errors="replace")


@contextmanager
def running(log_path: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A Python program of this repository; it does not outlive the block."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with log_path.open("wb") as log:
        process = subprocess.Popen([sys.executable, *command], env=environment, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def agent(tmp_path: Path, broker: RunningBroker) -> Iterator[AgentProcess]:
    environment = {"MANAGEMENT_URL": broker.url, "DEVICE_ID": DEVICE, "HEARTBEAT_INTERVAL": "10"}
    started = AgentProcess(tmp_path, environment)
    try:
        yield started
    finally:
        if started._process is not None and started.process.poll() is None:
            started.process.kill()
            started.process.wait()


class Platform:
    """Reads what devices say, and receipts what it is told to."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.messages: list[msgspec.Struct] = []

    async def listen(self) -> None:
        while True:
            deliveries = await self._connection.receive(100)
            for delivery in deliveries:
                template = parse(delivery.topic).template
                self.messages.append(decode(template, delivery.payload))
            self._connection.acknowledge(deliveries)

    async def receipt(self, boot_id: str, first: int, last: int) -> None:
        payload = encode(Receipt(boot_id=boot_id, ranges=[(first, last)]))
        await self._connection.publish(
            Publication(DEVICE_RECEIPTS.topic(DEVICE), payload, DEVICE_RECEIPTS.qos)
        )

    def statuses(self) -> list[DeviceStatus]:
        return [m for m in self.messages if isinstance(m, DeviceStatus)]

    def heartbeats(self) -> list[Heartbeat]:
        return [m for m in self.messages if isinstance(m, Heartbeat)]

    def record_names(self) -> list[tuple[str, int]]:
        names: list[tuple[str, int]] = []
        for message in self.messages:
            if isinstance(message, Heartbeat):
                names.append((message.boot_id, message.seq))
            elif isinstance(message, EventBatch):
                names.extend((message.boot_id, event.seq) for event in message.events)
        return names


@asynccontextmanager
async def platform(broker: RunningBroker) -> AsyncIterator[Platform]:
    templates = (DEVICE_STATUS, DEVICE_HEARTBEAT, DEVICE_EVENTS)
    async with connect(Address.parse(broker.url), "service.test", clean_session=True) as connection:
        await connection.subscribe([(template.filter(), 1) for template in templates])
        there = Platform(connection)
        listening = asyncio.create_task(there.listen())
        try:
            yield there
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)


async def test_birth_heartbeat_and_goodbye(broker: RunningBroker, agent: AgentProcess) -> None:
    async with platform(broker) as there:
        agent.start()
        await eventually(there.heartbeats)
        await eventually(lambda: len(there.record_names()) >= 2)
        birth, beat = there.statuses()[0], there.heartbeats()[0]
        assert (birth.reason, birth.session) == (Farewell.BIRTH, 1)
        assert there.messages.index(birth) == 0
        assert beat.boot_id == birth.boot_id
        assert beat.interval_s == 10
        assert beat.receipt
        assert beat.info is not None
        assert beat.info.stack_version == "dev"
        assert agent.end(signal.SIGTERM) == 0
        await eventually(lambda: there.statuses()[-1].reason is Farewell.GOODBYE)
    async with platform(broker) as later:
        retained = await eventually(later.statuses)
        assert [status.reason for status in retained] == [Farewell.GOODBYE]


async def test_the_broker_speaks_the_will_after_kill_9(
    broker: RunningBroker, agent: AgentProcess
) -> None:
    async with platform(broker) as there:
        agent.start()
        await eventually(there.heartbeats)
        agent.end(signal.SIGKILL)
        await eventually(lambda: there.statuses()[-1].reason is Farewell.WILL)
        birth, will = there.statuses()
        assert (will.boot_id, will.session) == (birth.boot_id, birth.session)
        agent.start()
        await eventually(lambda: len(there.statuses()) == 3)
        assert there.statuses()[-1].boot_id != birth.boot_id


async def test_records_of_a_killed_boot_come_again_until_they_are_receipted(
    broker: RunningBroker, agent: AgentProcess
) -> None:
    async with platform(broker) as there:
        agent.start()
        await eventually(lambda: len(there.record_names()) >= 2)
        first_boot = there.heartbeats()[0].boot_id
        agent.end(signal.SIGKILL)
        there.messages.clear()

        agent.start()
        await eventually(lambda: {(first_boot, 1), (first_boot, 2)} <= {*there.record_names()})
        await there.receipt(first_boot, 1, 2)
        second_boot = there.statuses()[-1].boot_id
        assert second_boot != first_boot
        await eventually(lambda: first_boot not in agent.spooled_boots())
        assert second_boot in agent.spooled_boots()
        agent.end(signal.SIGTERM)
        there.messages.clear()

        agent.start()
        await eventually(lambda: len(there.record_names()) >= 2)
        assert first_boot not in {boot_id for boot_id, _ in there.record_names()}


async def test_after_a_broken_line_the_next_session_replays(
    broker: RunningBroker, agent: AgentProcess
) -> None:
    async with platform(broker) as there:
        agent.start()
        await eventually(lambda: len(there.record_names()) >= 2)
        boot_id = there.statuses()[0].boot_id
    broker.kill()
    broker.forget()
    broker.start()
    async with platform(broker) as there:
        await eventually(there.statuses, timeout_s=15)
        status = there.statuses()[0]
        assert (status.boot_id, status.reason) == (boot_id, Farewell.BIRTH)
        assert status.session >= 2
        await eventually(lambda: {(boot_id, 1), (boot_id, 2)} <= {*there.record_names()})


async def test_once_ends_with_its_receipt(broker: RunningBroker, agent: AgentProcess) -> None:
    async with platform(broker) as there:
        agent.start("--once")
        beat = (await eventually(there.heartbeats))[0]
        await there.receipt(beat.boot_id, beat.seq, beat.seq)
        assert await eventually(lambda: agent.process.poll() is not None)
        assert agent.process.returncode == 0, agent.log_text()
        await eventually(lambda: there.statuses()[-1].reason is Farewell.GOODBYE)


async def test_once_without_a_broker_says_so(broker: RunningBroker, agent: AgentProcess) -> None:
    broker.stop()
    agent.start("--once")
    assert await eventually(lambda: agent.process.poll()) == 9


async def test_once_without_a_receipt_times_out(broker: RunningBroker, agent: AgentProcess) -> None:
    began_s = time.monotonic()
    agent.start("--once")
    assert await eventually(lambda: agent.process.poll(), timeout_s=25) == 6
    assert 15 <= time.monotonic() - began_s < 18
    assert "no receipt for 15 s: is this device registered? (fleet device list)" in agent.log_text()


async def test_the_first_heartbeat_does_not_measure_the_agent_s_own_start(
    broker: RunningBroker, agent: AgentProcess
) -> None:
    async with platform(broker) as there:
        agent.start()
        birth = (await eventually(there.statuses))[0]
        psutil.cpu_percent()
        beat = (await eventually(there.heartbeats))[0]
        outside_percent = psutil.cpu_percent()
        waited_s = (beat.at - birth.at).total_seconds()
        assert 0.5 <= waited_s <= 1.5, "a window worth the name, and promptly all the same"
        assert beat.metrics.cpu_percent <= outside_percent + CPU_TOLERANCE_PERCENT


async def test_an_enrolment_code_is_enough_and_needed_once(
    broker: RunningBroker, agent: AgentProcess
) -> None:
    code = encode_code(EnrolmentCode(broker.url, DEVICE))
    async with platform(broker) as there:
        agent.start(environment={"REGISTRATION_TOKEN": code})
        await eventually(there.heartbeats)
        assert agent.end(signal.SIGINT) == 0
        agent.start(environment={})
        await eventually(lambda: len({s.boot_id for s in there.statuses()}) == 2)


async def test_a_code_for_another_device_is_refused(
    broker: RunningBroker, agent: AgentProcess
) -> None:
    async with platform(broker) as there:
        agent.start()
        await eventually(there.heartbeats)
        agent.end(signal.SIGTERM)
    code = encode_code(EnrolmentCode(broker.url, "gw-0002"))
    agent.start(environment={"REGISTRATION_TOKEN": code})
    assert agent.process.wait(10) == 2
    assert f"{agent.directory} belongs to the device '{DEVICE}'" in agent.log_text()
    assert "Traceback" not in agent.log_text()


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"HEARTBEAT_INTERVAL": "9"}, "HEARTBEAT_INTERVAL must be"),
        ({"MANAGEMENT_URL": "mqtt://192.0.2.1"}, "not on this machine"),
        ({"DEVICE_ID": "no device"}, "no device id"),
    ],
)
async def test_a_bad_configuration_is_refused(
    agent: AgentProcess, environment: dict[str, str], reason: str
) -> None:
    agent.start(environment={**agent._environment, **environment})
    assert agent.process.wait(10) == 2
    assert reason in agent.log_text()
    assert "Traceback" not in agent.log_text()


async def test_two_agents_do_not_share_a_directory(
    broker: RunningBroker, agent: AgentProcess, tmp_path: Path
) -> None:
    async with platform(broker) as there:
        agent.start()
        await eventually(there.heartbeats)
        second = AgentProcess(tmp_path, agent._environment)
        second.start()
        assert second.process.wait(10) == 2
        assert "another agent is running" in second.log_text()


async def test_resident_memory_stays_small(broker: RunningBroker, agent: AgentProcess) -> None:
    async with platform(broker) as there:
        agent.start()
        await eventually(there.heartbeats)
        memory = psutil.Process(agent.process.pid).memory_info()
        assert memory.rss <= MEMORY_LIMIT_BYTES, f"{memory.rss / 1e6:.1f} MB"


async def test_the_example_is_a_device(broker: RunningBroker, tmp_path: Path) -> None:
    async with platform(broker) as there:
        program = str(REPOSITORY / "examples/device.py")
        with running(tmp_path / "example.log", program, broker.url, DEVICE) as process:
            beat = (await eventually(there.heartbeats))[0]
            assert "temperature_celsius" in beat.metrics.custom
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
        await eventually(lambda: there.statuses()[-1].reason is Farewell.GOODBYE)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "the following arguments are required: URL, DEVICE"),
        (("http://127.0.0.1", DEVICE), "is no broker URL"),
    ],
)
def test_the_example_agent_explains_its_arguments(arguments: tuple[str, ...], reason: str) -> None:
    ended = subprocess.run(
        [sys.executable, str(REPOSITORY / "examples/device.py"), *arguments],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("usage: device.py")
    assert reason in ended.stderr
    assert "Traceback" not in ended.stderr


async def test_a_simulator_ends_with_the_process_that_started_it(
    broker: RunningBroker, tmp_path: Path
) -> None:
    program = "import subprocess, sys; subprocess.run([sys.executable, *sys.argv[1:]])"
    simulator = ["-m", "simulator", "--url", broker.url, "--devices", "1", "--exit-with-parent"]
    async with platform(broker) as there:
        with running(tmp_path / "parent.log", "-c", program, *simulator) as parent:
            await eventually(there.heartbeats)
            (child,) = psutil.Process(parent.pid).children()
            parent.kill()
            try:
                await eventually(lambda: there.statuses()[-1].reason is Farewell.GOODBYE)
            finally:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()


async def test_the_simulator_is_many_devices(broker: RunningBroker, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    async with platform(broker) as there:
        command = ["-m", "simulator", "--url", broker.url, "--devices", "20"]
        options = ["--interval", "1", "--silent", "10", "--hot", "10", "--journal", str(journal)]
        with running(tmp_path / "simulator.log", *command, *options) as process:
            births = await eventually(
                lambda: [s for s in there.statuses() if s.reason is Farewell.BIRTH][19:]
            )
            assert births
            await eventually(lambda: max((b.seq for b in there.heartbeats()), default=0) >= 4)
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
        goodbyes = await eventually(
            lambda: [s for s in there.statuses() if s.reason is Farewell.GOODBYE][19:]
        )
        assert goodbyes
        heartbeats = there.heartbeats()
    hot = {b.boot_id for b in heartbeats if b.metrics.cpu_percent > 90}
    assert len(hot) == 2
    per_boot = Counter(b.boot_id for b in heartbeats)
    assert list(per_boot.values()).count(HEARTBEATS_BEFORE_SILENCE) == 2
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    sent = {(line["boot"], line["seq"]) for line in lines if line["what"] == "sent"}
    acked = {(line["boot"], line["seq"]) for line in lines if line["what"] == "acked"}
    assert {(b.boot_id, b.seq) for b in heartbeats} <= sent
    assert acked <= sent


async def test_a_device_that_is_cut_comes_back_after_its_will(
    broker: RunningBroker, tmp_path: Path
) -> None:
    async with platform(broker) as there:
        command = ["-m", "simulator", "--url", broker.url, "--devices", "1"]
        options = ["--interval", "1", "--churn", "600", "--seed", "3"]
        with running(tmp_path / "simulator.log", *command, *options) as process:
            await eventually(
                lambda: (
                    [s.reason for s in there.statuses()][:3]
                    == [Farewell.BIRTH, Farewell.WILL, Farewell.BIRTH]
                ),
                timeout_s=60,
            )
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
        birth, will, again = there.statuses()[:3]
        assert (birth.session, will.session) == (1, 1)
        assert again.session == 2
        assert (again.at - birth.at).total_seconds() >= AWAY_S[0]
