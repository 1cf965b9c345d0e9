"""The real `fleet` process against a real Mosquitto, with a platform that answers by a script."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fleet_cli.client import operator_session
from fleet_cli.errors import BrokerUnreachable, NoAnswer, RequestFailed
from fleet_cli.follow import Change, DeviceLeft
from fleet_core.contract.codec import decode, encode
from fleet_core.contract.enrolment import decode_code
from fleet_core.contract.messages import (
    Chunk,
    DeviceHealth,
    DeviceInfo,
    ErrorBody,
    LiveDevice,
    Request,
    Response,
)
from fleet_core.contract.operations import (
    OPERATIONS,
    DeviceDetail,
    DeviceList,
    DevicePage,
    DeviceRow,
    DeviceShow,
)
from fleet_core.contract.topics import OPERATOR_REQUESTS, OPERATOR_RESPONSES, TENANT_DEVICES, parse
from fleet_core.rules.chunks import split
from fleet_core.runtime.clock import now_utc
from fleet_core.runtime.mqtt import Address, Connection, Publication, connect
from tests.fixtures.brokers import REPOSITORY, RunningBroker, free_port, start_mosquitto
from tests.fixtures.eventually import eventually

pytestmark = pytest.mark.mosquitto

AT = datetime(2030, 1, 1, tzinfo=UTC)
Answer = Callable[[Request], Sequence[Chunk]]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    with start_mosquitto(tmp_path_factory.mktemp("mosquitto")) as running:
        yield running


class Finished(msgspec.Struct):
    """What a process left behind."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> dict[str, Any]:
        """The one envelope on stderr."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        envelope: dict[str, Any] = json.loads(lines[0])
        assert set(envelope) == {"code", "message", "hint", "details"}
        return envelope


class Platform:
    """Answers requests by a script; remembers what was asked."""

    def __init__(self, connection: Connection, answer: Answer) -> None:
        self.connection = connection
        self.answer = answer
        self.asked: list[Request] = []
        self.operators: list[str] = []

    async def serve(self) -> None:
        while True:
            deliveries = await self.connection.receive(10)
            self.connection.acknowledge(deliveries)
            for delivery in deliveries:
                topic = parse(delivery.topic)
                request = decode(OPERATOR_REQUESTS, delivery.payload)
                assert isinstance(request, Request)
                assert topic.key == request.request_id
                self.asked.append(request)
                self.operators.append(topic.identity)
                for chunk in self.answer(request):
                    where = OPERATOR_RESPONSES.topic(topic.identity, request.request_id)
                    await self.connection.publish(Publication(where, encode(chunk)))


@contextlib.asynccontextmanager
async def platform(broker: RunningBroker, answer: Answer) -> AsyncIterator[Platform]:
    address = Address.parse(broker.url)
    async with connect(address, "service.requests", clean_session=True) as connection:
        await connection.subscribe([(OPERATOR_REQUESTS.filter(), 1)])
        running = Platform(connection, answer)
        task = asyncio.create_task(running.serve())
        try:
            yield running
        finally:
            task.cancel()
            await asyncio.wait((task,))


def whole(request: Request, response: Response, chunk_bytes: int = 40_000) -> list[Chunk]:
    return split(request.request_id, encode(response).decode(), chunk_bytes)


def device(number: int, **changes: Any) -> DeviceRow:
    row = DeviceRow(
        device_id=f"gw-{number:04}",
        name=f"Gateway {number}",
        site="berlin",
        status=DeviceHealth.ONLINE,
        since=AT,
        score=100,
        cpu_percent=12.5,
        ram_percent=30,
        disk_percent=40,
        connectors_running=2,
        connectors_total=2,
        last_seen_at=AT,
        hostname=f"host-{number}",
        addresses=["192.0.2.1"],
        uptime_s=99,
        tags={"env": "lab"},
    )
    return msgspec.structs.replace(row, **changes)


def fleet_of(count: int, **changes: Any) -> Answer:
    """Answers `device.list` as a registry with `count` devices would."""

    def answer(request: Request) -> list[Chunk]:
        params = msgspec.convert(request.params, DeviceList)
        numbers = range(params.offset, min(count, params.offset + params.limit))
        page = DevicePage(devices=[device(n, **changes) for n in numbers], total=count)
        return whole(request, Response(result=page))

    return answer


def refusal(code: str, message: str = "no") -> Answer:
    error = ErrorBody(code=code, message=message, hint="look", details={"device_id": "gw-1"})
    return lambda request: whole(request, Response(error=error))


async def start_fleet(
    broker_url: str,
    *arguments: str,
    stdout: int = asyncio.subprocess.PIPE,
    environment: Mapping[str, str] | None = None,
) -> asyncio.subprocess.Process:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("FLEET_") and name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")
    }
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fleet_cli", *arguments),
        cwd=REPOSITORY,
        env={
            **inherited,
            "FLEET_BROKER_URL": broker_url,
            "TERM": "xterm-256color",
            **(environment or {}),
        },
        stdin=asyncio.subprocess.DEVNULL,
        stdout=stdout,
        stderr=asyncio.subprocess.PIPE,
    )


async def fleet(broker_url: str, *arguments: str, **environment: str) -> Finished:
    process = await start_fleet(broker_url, *arguments, environment=environment)
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode is not None
    return Finished(process.returncode, out.decode(), err.decode())


class Terminal:
    """A pseudo-terminal of `columns` by 30 for stdout."""

    def __init__(self, columns: int) -> None:
        import fcntl
        import struct
        import termios

        self._master, self.slave = os.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
        self._data = b""
        asyncio.get_running_loop().add_reader(self._master, self._read)

    @property
    def text(self) -> str:
        return self._data.decode(errors="replace")

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._master)
        os.close(self.slave)

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            self._data += os.read(self._master, 65536)


@contextlib.asynccontextmanager
async def terminal(columns: int = 120) -> AsyncIterator[Terminal]:
    opened = Terminal(columns)
    try:
        yield opened
    finally:
        opened.close()


async def test_a_pipe_gets_json_and_nothing_else(broker: RunningBroker) -> None:
    async with platform(broker, fleet_of(2)) as there:
        ended = await fleet(broker.url, "device", "list", FLEET_OPERATOR="alice")
    rows = json.loads(ended.out)
    assert ended.code == 0
    assert ended.err == ""
    assert [row["device_id"] for row in rows] == ["gw-0000", "gw-0001"]
    assert rows[0]["last_seen_at"] == "2030-01-01T00:00:00Z"
    assert there.operators == ["operator.alice"]
    assert there.asked[0].expires_at > now_utc()


async def test_an_empty_list_is_an_empty_array(broker: RunningBroker) -> None:
    async with platform(broker, fleet_of(0)):
        ended = await fleet(broker.url, "device", "list")
        lines = await fleet(broker.url, "device", "list", "-o", "jsonl")
        table = await fleet(broker.url, "device", "list", "-o", "table")
        cells = await fleet(broker.url, "device", "list", "-o", "csv")
    assert (ended.code, ended.out, ended.err) == (0, "[]\n", "")
    assert (lines.code, lines.out) == (0, "")
    assert (table.code, table.out, table.err) == (0, "", "no device matches\n")
    assert cells.out.startswith("device_id,name,site")
    assert len(cells.out.splitlines()) == 1


async def test_filters_reach_the_platform(broker: RunningBroker) -> None:
    words = "--status warning --status offline --site berlin --tag env=lab --text gw --sort -cpu"
    async with platform(broker, fleet_of(0)) as there:
        await fleet(broker.url, "device", "list", *words.split(), "--limit", "7", "--page", "3")
    assert msgspec.convert(there.asked[0].params, DeviceList) == DeviceList(
        status=[DeviceHealth.WARNING, DeviceHealth.OFFLINE],
        site=["berlin"],
        tags={"env": "lab"},
        text="gw",
        sort=msgspec.convert("cpu", type(DeviceList().sort)),
        descending=True,
        limit=7,
        offset=14,
    )


async def test_what_the_contract_refuses_is_not_sent(broker: RunningBroker) -> None:
    async with platform(broker, fleet_of(0)) as there:
        ended = await fleet(broker.url, "device", "list", "--tag", f"{'x' * 80}=1")
    assert (ended.code, ended.error["code"]) == (2, "usage")
    assert there.asked == []


async def test_all_pages_are_fetched_and_a_cut_list_says_so(broker: RunningBroker) -> None:
    async with platform(broker, fleet_of(2100)) as there:
        everything = await fleet(broker.url, "device", "list", "--all", "-o", "name")
        pages = [request.params["offset"] for request in there.asked]
        some = await fleet(broker.url, "device", "list", "--limit", "1500", "-o", "name")
        cut = await fleet(broker.url, "device", "list", "-o", "name")
    assert pages == [0, 1000, 2000]
    assert len(set(everything.out.split())) == 2100
    assert everything.err == ""
    assert len(some.out.split()) == 1500
    assert some.err == ""
    assert len(cut.out.split()) == 100
    assert json.loads(cut.err)["code"] == "truncated"


async def test_chunks_out_of_order_and_repeated(broker: RunningBroker) -> None:
    def answer(request: Request) -> list[Chunk]:
        chunks = whole(request, Response(result=DevicePage(devices=[device(1)], total=1)), 50)
        return [*reversed(chunks), *chunks]

    async with platform(broker, answer):
        ended = await fleet(broker.url, "device", "list", "-o", "name")
    assert (ended.code, ended.out) == (0, "gw-0001\n")


async def test_contradicting_chunks_are_an_internal_error(broker: RunningBroker) -> None:
    def answer(request: Request) -> list[Chunk]:
        first, second, *_ = whole(request, Response(result={"devices": [], "total": 0}), 10)
        return [first, msgspec.structs.replace(second, total_chunks=second.total_chunks + 1)]

    async with platform(broker, answer):
        ended = await fleet(broker.url, "device", "list")
    assert ended.code == 1
    assert "total_chunks" in ended.error["message"]


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"result": {"devices": 1}}', "null"])
async def test_an_answer_that_is_none(broker: RunningBroker, text: str) -> None:
    async with platform(broker, lambda request: split(request.request_id, text)):
        ended = await fleet(broker.url, "device", "list")
    assert ended.code == 1
    assert "can't be read" in ended.error["message"]


async def test_an_answer_to_another_request_is_ignored(broker: RunningBroker) -> None:
    def answer(request: Request) -> list[Chunk]:
        mine = whole(request, Response(result=DevicePage(devices=[], total=0)))
        return [*split("0" * 32, '{"error": {"code": "denied", "message": "x"}}'), *mine]

    async with platform(broker, answer):
        ended = await fleet(broker.url, "device", "list")
    assert (ended.code, ended.out) == (0, "[]\n")


async def test_no_answer_is_a_timeout(broker: RunningBroker) -> None:
    async with platform(broker, lambda _: []):
        ended = await fleet(broker.url, "device", "list", "--timeout", "0.3")
    assert ended.code == 6
    assert ended.error["code"] == "timeout"
    assert ended.out == ""


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        ("internal", 1),
        ("usage", 2),
        ("not_found", 3),
        ("denied", 4),
        ("conflict", 5),
        ("timeout", 6),
        ("partial_failure", 7),
        ("all_failed", 8),
        ("of_a_later_version", 1),
    ],
)
async def test_error_envelopes_become_exit_codes(
    broker: RunningBroker, code: str, exit_code: int
) -> None:
    async with platform(broker, refusal(code)):
        ended = await fleet(broker.url, "device", "show", "gw-1")
    assert ended.code == exit_code
    assert ended.error == {
        "code": code,
        "message": "no",
        "hint": "look",
        "details": {"device_id": "gw-1"},
    }


async def test_an_error_for_people_is_neutralised(broker: RunningBroker) -> None:
    async with platform(broker, refusal("not_found", "no \x1b[2J device")):
        ended = await fleet(broker.url, "device", "show", "gw-1", "-o", "table")
    assert ended.code == 3
    assert ended.err == "error: no \\x1b[2J device\nhint: look\n"


async def test_no_broker() -> None:
    ended = await fleet(f"mqtt://127.0.0.1:{free_port()}", "status")
    assert ended.code == 9
    assert ended.error["code"] == "broker_unreachable"


async def test_registration_prints_a_line_to_run(broker: RunningBroker) -> None:
    def answer(request: Request) -> list[Chunk]:
        registered = [new["device_id"] for new in request.params["devices"]]
        return whole(request, Response(result={"registered": registered}))

    words = ("device", "register", "Köln Gateway 3", "--site", "cologne", "--tag", "env=lab")
    async with platform(broker, answer) as there:
        machine = await fleet(broker.url, *words)
        people = await fleet(broker.url, *words, "--id", "gw-77", "-o", "table")
    document = json.loads(machine.out)
    code = decode_code(document["registration_token"])
    assert (code.device_id, code.url) == ("koln-gateway-3", broker.url)
    assert document["install_command"].endswith(" fleet-agent run")
    assert there.asked[0].params["devices"][0] == {
        "device_id": "koln-gateway-3",
        "name": "Köln Gateway 3",
        "site": "cologne",
        "tags": {"env": "lab"},
        "owner": "",
    }
    line = people.out.splitlines()[-1]
    assert line.startswith("REGISTRATION_TOKEN=fleet1.")
    assert decode_code(line.split()[0].partition("=")[2]).device_id == "gw-77"


def detail_of(row: DeviceRow) -> DeviceDetail:
    return DeviceDetail(
        device=row,
        owner="",
        tenant="default",
        lifecycle="active",
        registered_at=AT,
        info=DeviceInfo(),
        metrics=None,
        connectors=[],
        interval_s=None,
        boot_id=None,
        session=None,
        clock_skewed=False,
        events=[],
    )


async def test_the_install_line_is_whole_on_a_narrow_terminal(broker: RunningBroker) -> None:
    def answer(request: Request) -> list[Chunk]:
        if request.operation == "device.show":
            shown = detail_of(device(1, device_id=request.params["device_id"]))
            return whole(request, Response(result=shown))
        registered = [new["device_id"] for new in request.params["devices"]]
        return whole(request, Response(result={"registered": registered}))

    identity = "gateway-" + "x" * 55
    commands = (
        ("register", "Gateway", "--site", "berlin", "--id", identity),
        ("install", identity),
    )
    lines = []
    async with platform(broker, answer), terminal(columns=40) as screen:
        for words in commands:
            screen._data = b""
            process = await start_fleet(broker.url, "device", *words, stdout=screen.slave)
            assert await asyncio.wait_for(process.wait(), 30) == 0
            await eventually(lambda: "fleet-agent run\r\n" in screen.text)
            lines.append(screen.text.splitlines()[-1])
            assert screen.text.count("fleet1.") == 1
    assert lines[0] == lines[1]
    token = lines[0].removeprefix("REGISTRATION_TOKEN=").removesuffix(" fleet-agent run")
    assert decode_code(token).device_id == identity


async def test_install_prints_the_line_of_a_registered_device(broker: RunningBroker) -> None:
    def answer(request: Request) -> list[Chunk]:
        return whole(request, Response(result=detail_of(device(1))))

    async with platform(broker, answer):
        document = json.loads((await fleet(broker.url, "device", "install", "gw-0001")).out)
        name = await fleet(broker.url, "device", "install", "gw-0001", "-o", "name")
    code = decode_code(document["registration_token"])
    assert (code.device_id, code.url) == ("gw-0001", broker.url)
    assert name.out == "gw-0001\n"


async def test_install_of_an_unknown_device_is_not_found(broker: RunningBroker) -> None:
    async with platform(broker, refusal("not_found")):
        ended = await fleet(broker.url, "device", "install", "gw-1")
    assert (ended.code, ended.out) == (3, "")


async def test_a_conflict_says_how_to_get_the_line_again(broker: RunningBroker) -> None:
    async with platform(broker, refusal("conflict")):
        ended = await fleet(broker.url, "device", "register", "Gateway 1", "--site", "berlin")
    assert ended.code == 5
    assert "fleet device install gateway-1" in ended.error["hint"]


async def test_a_reader_that_has_enough_ends_it_quietly(broker: RunningBroker) -> None:
    async with platform(broker, fleet_of(3000)):
        reading, writing = os.pipe()
        process = await start_fleet(
            broker.url, "device", "list", "--all", "-o", "jsonl", stdout=writing
        )
        os.close(writing)
        os.close(reading)
        _, err = await asyncio.wait_for(process.communicate(), 30)
    assert (process.returncode, err) == (0, b"")


async def test_a_terminal_gets_a_coloured_table(broker: RunningBroker) -> None:
    evil = {"name": "\x1b]0;owned\x07", "status": DeviceHealth.WARNING}
    async with platform(broker, fleet_of(1, **evil)), terminal() as screen:
        for environment in ({}, {"NO_COLOR": "1"}):
            process = await start_fleet(
                broker.url, "device", "list", stdout=screen.slave, environment=environment
            )
            await asyncio.wait_for(process.wait(), 30)
            await eventually(lambda: "env=lab" in screen.text)
            table, screen._data = screen.text, b""
            assert "gw-0000" in table
            assert "\x1b]0" not in table
            assert "\\x1b]0;owned\\x07" in table
            assert ("\x1b[33m" in table) == (not environment)


def live(number: int, status: DeviceHealth, site: str = "berlin") -> Publication:
    state = LiveDevice(
        device_id=f"gw-{number}", name=f"Gateway {number}", site=site, status=status, since=AT
    )
    topic = TENANT_DEVICES.topic("default", state.device_id)
    return Publication(topic, encode(state), retain=True)


def gone(number: int) -> Publication:
    return Publication(TENANT_DEVICES.topic("default", f"gw-{number}"), b"", retain=True)


@contextlib.asynccontextmanager
async def publisher(broker: RunningBroker) -> AsyncIterator[Connection]:
    """Speaks for the platform on the tenant's topics, and leaves nothing retained behind."""
    async with connect(Address.parse(broker.url), "service.presence", clean_session=True) as line:
        try:
            yield line
        finally:
            await line.publish_all([gone(number) for number in range(5)])


async def test_watch_in_a_pipe_writes_a_line_for_each_change(broker: RunningBroker) -> None:
    async with publisher(broker) as there:
        foreign = TENANT_DEVICES.topic("default", "gw-3")
        await there.publish_all(
            [
                live(1, DeviceHealth.ONLINE),
                live(2, DeviceHealth.WARNING, site="oslo"),
                Publication(foreign, b"not json", retain=True),
                Publication(foreign, live(1, DeviceHealth.OFFLINE).payload),
            ]
        )
        process = await start_fleet(broker.url, "device", "watch", "--site", "berlin")
        assert process.stdout is not None
        first = json.loads(await process.stdout.readline())
        await there.publish_all(
            [live(1, DeviceHealth.OFFLINE), live(1, DeviceHealth.ONLINE), gone(1)]
        )
        rest = [json.loads(await process.stdout.readline()) for _ in range(3)]
        process.send_signal(signal.SIGINT)
        out, err = await asyncio.wait_for(process.communicate(), 30)
    assert (first["device_id"], first["status"], first["left"]) == ("gw-1", "online", False)
    assert [(row["status"], row["left"]) for row in rest] == [
        ("offline", False),
        ("online", False),
        ("online", True),
    ]
    assert (process.returncode, out, err) == (130, b"", b"")


async def test_watch_ends_by_itself(broker: RunningBroker) -> None:
    words = ("device", "watch", "--for", "2", "-o")
    async with publisher(broker) as there:
        await there.publish(live(1, DeviceHealth.ONLINE))
        cells, table = await asyncio.gather(
            fleet(broker.url, *words, "csv"), fleet(broker.url, *words, "table")
        )
    rows = list(csv.DictReader(io.StringIO(cells.out)))
    assert cells.code == table.code == 0
    assert [row["device_id"] for row in rows] == ["gw-1"]
    assert table.out.startswith("1 device ")


async def test_watch_on_a_terminal_is_live_until_interrupted(broker: RunningBroker) -> None:
    async with publisher(broker) as there, terminal() as screen:
        await there.publish(live(1, DeviceHealth.ONLINE))
        process = await start_fleet(broker.url, "device", "watch", stdout=screen.slave)
        await eventually(lambda: "1 online" in screen.text)
        await there.publish(live(2, DeviceHealth.OFFLINE))
        await eventually(lambda: "1 offline" in screen.text)
        process.send_signal(signal.SIGINT)
        await asyncio.wait_for(process.wait(), 30)
        assert process.returncode == 130
        await eventually(lambda: screen.text.rindex("\x1b[?25h") > screen.text.rindex("\x1b[?25l"))


async def test_a_watch_survives_a_broker_that_goes_away(tmp_path: Path) -> None:
    with start_mosquitto(tmp_path) as own:
        address = Address.parse(own.url)
        async with connect(address, "service.presence", clean_session=True) as there:
            await there.publish_all([live(1, DeviceHealth.ONLINE), live(2, DeviceHealth.ONLINE)])
        process = await start_fleet(own.url, "device", "watch")
        assert process.stdout is not None
        assert process.stderr is not None
        first = [json.loads(await process.stdout.readline()) for _ in range(2)]
        own.kill()
        note = json.loads(await asyncio.wait_for(process.stderr.readline(), 30))
        own.start()
        async with connect(address, "service.presence", clean_session=True) as there:
            # one picture as it was, and one that is new
            await there.publish_all([live(1, DeviceHealth.ONLINE), live(2, DeviceHealth.OFFLINE)])
            row = json.loads(await asyncio.wait_for(process.stdout.readline(), 30))
        process.send_signal(signal.SIGINT)
        out, err = await asyncio.wait_for(process.communicate(), 30)
    assert {row["device_id"] for row in first} == {"gw-1", "gw-2"}
    assert (note["code"], note["message"]) == ("connection_lost", "connection lost, reconnecting")
    assert (row["device_id"], row["status"]) == ("gw-2", "offline")
    assert (process.returncode, out, err) == (130, b"", b"")


async def test_a_watch_on_a_terminal_says_that_it_is_reconnecting(tmp_path: Path) -> None:
    with start_mosquitto(tmp_path) as own:
        async with terminal() as screen:
            process = await start_fleet(own.url, "device", "watch", stdout=screen.slave)
            await eventually(lambda: "0 devices" in screen.text)
            async with publisher(own) as there:
                await there.publish(live(1, DeviceHealth.ONLINE))
                await eventually(lambda: "1 online" in screen.text)
            own.kill()
            await eventually(lambda: "connection lost, reconnecting" in screen.text)
            own.start()
            async with publisher(own) as there:
                await there.publish(live(2, DeviceHealth.OFFLINE))
                await eventually(lambda: "1 offline" in screen.text, timeout_s=20)
            process.send_signal(signal.SIGINT)
            await asyncio.wait_for(process.wait(), 30)
    assert process.returncode == 130


@contextlib.asynccontextmanager
async def silent_port() -> AsyncIterator[str]:
    """A port that accepts and never answers."""

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    async with server:
        yield f"mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("output", ["table", "jsonl"])
async def test_a_watch_that_never_connects_is_no_empty_fleet(output: str) -> None:
    async with silent_port() as url:
        ended = await fleet(url, "device", "watch", "--for", "1", "-o", output)
    assert (ended.code, ended.out) == (9, "")
    assert "no connection" in ended.err


async def test_a_terminal_shows_no_fleet_before_there_is_a_connection() -> None:
    async with silent_port() as url, terminal() as screen:
        process = await start_fleet(url, "device", "watch", "--for", "1", stdout=screen.slave)
        _, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 9
    assert "0 devices" not in screen.text
    assert b"no connection" in err


async def test_a_watch_without_a_broker_ends() -> None:
    ended = await fleet(f"mqtt://127.0.0.1:{free_port()}", "device", "watch")
    assert (ended.code, ended.out) == (9, "")
    assert ended.error["code"] == "broker_unreachable"


@pytest.mark.parametrize("words", ["status", "device watch"])
async def test_the_timeout_bounds_connecting(words: str) -> None:
    async with silent_port() as url:
        began_at = now_utc()
        ended = await fleet(url, *words.split(), "--timeout", "0.5")
    assert (ended.code, ended.error["code"]) == (9, "broker_unreachable")
    assert (now_utc() - began_at).total_seconds() < 5


async def test_a_watch_of_chosen_devices(broker: RunningBroker) -> None:
    async with publisher(broker) as there:
        await there.publish_all([live(n, DeviceHealth.ONLINE) for n in (1, 2, 3)])
        ended = await fleet(
            broker.url, "device", "watch", "gw-1", "gw-3", "--for", "2", "-o", "name"
        )
    assert sorted(ended.out.split()) == ["gw-1", "gw-3"]


async def test_a_page_behind_the_last_is_told(broker: RunningBroker) -> None:
    words = ("device", "list", "--page", "20")
    async with platform(broker, fleet_of(450)):
        people = await fleet(broker.url, *words, "-o", "table")
        machine = await fleet(broker.url, *words)
    assert (people.code, people.out, people.err) == (0, "", "page 20 of 5 is empty\n")
    assert (machine.code, machine.out) == (0, "[]\n")
    assert json.loads(machine.err)["message"] == "page 20 of 5 is empty"


async def test_dead_letters_of_one_device(broker: RunningBroker) -> None:
    def answer(request: Request) -> list[Chunk]:
        return whole(request, Response(result={"dead_letters": [], "total": 0}))

    async with platform(broker, answer) as there:
        ended = await fleet(broker.url, "dead-letters", "list", "--device", "gw-1")
    assert ended.code == 0
    assert there.asked[0].params["topic"] == "/gw-1/"


async def test_many_requests_share_a_session(broker: RunningBroker) -> None:
    waiting: list[list[Chunk]] = []

    def answer(request: Request) -> list[Chunk]:
        """All at once and mixed, when the last has been asked."""
        number = msgspec.convert(request.params, DeviceList).offset
        page = DevicePage(devices=[device(number)], total=1)
        waiting.append(whole(request, Response(result=page), 64))
        return []

    async with platform(broker, answer) as there, operator_session(broker.url) as session:
        asked = [
            asyncio.create_task(session.request(OPERATIONS["device.list"], DeviceList(offset=n)))
            for n in range(20)
        ]
        await eventually(lambda: len(waiting) == 20)
        mixed = [chunk for turn in zip(*waiting, strict=False) for chunk in turn]
        rest = [chunk for chunks in waiting for chunk in chunks]
        for chunk in (*mixed, *rest):
            topic = OPERATOR_RESPONSES.topic("operator.local", chunk.request_id)
            await there.connection.publish(Publication(topic, encode(chunk)))
        pages = await asyncio.gather(*asked)
    assert [page.devices[0].device_id for page in pages] == [f"gw-{n:04}" for n in range(20)]


async def test_a_session_survives_a_failed_request(broker: RunningBroker) -> None:
    script: list[Answer] = [lambda _: [], refusal("not_found"), fleet_of(1)]
    async with (
        platform(broker, lambda request: script.pop(0)(request)),
        operator_session(broker.url) as session,
    ):
        show, listed = OPERATIONS["device.show"], OPERATIONS["device.list"]
        with pytest.raises(NoAnswer):
            await session.request(show, DeviceShow(device_id="gw-1"), timeout_s=0.2)
        with pytest.raises(RequestFailed) as failure:
            await session.request(show, DeviceShow(device_id="gw-1"))
        page = await session.request(listed, DeviceList())
    assert failure.value.code == "not_found"
    assert page.total == 1


async def test_a_lost_connection_fails_what_is_under_way(tmp_path: Path) -> None:
    with start_mosquitto(tmp_path) as own:
        async with operator_session(own.url) as session:
            request = session.request(OPERATIONS["device.list"], DeviceList())
            asked = asyncio.create_task(request)
            await eventually(lambda: bool(session._pending))
            own.kill()
            with pytest.raises(BrokerUnreachable) as failure:
                await asked
            assert failure.value.message == "the connection broke"
            with pytest.raises(BrokerUnreachable):
                await session.request(OPERATIONS["device.list"], DeviceList())
        own.start()


async def test_follow_tells_what_is_there_what_changes_and_what_left(
    broker: RunningBroker,
) -> None:
    seen: list[Change] = []
    async with publisher(broker) as there, operator_session(broker.url) as session:
        await there.publish(live(1, DeviceHealth.ONLINE))
        async with contextlib.aclosing(session.follow("default")) as changes:
            seen.append(await anext(changes))
            await there.publish_all([live(1, DeviceHealth.OFFLINE), gone(1)])
            seen += [await anext(changes), await anext(changes)]
    assert [getattr(change, "status", None) for change in seen] == ["online", "offline", None]
    assert seen[-1] == DeviceLeft("gw-1")


async def test_the_simulator_is_registered_before_it_runs(broker: RunningBroker) -> None:
    def answer(request: Request) -> list[Chunk]:
        ids = [new["device_id"] for new in request.params["devices"]]
        return whole(request, Response(result={"registered": ids[1:], "existing": ids[:1]}))

    words = "sim run --devices 1100 --ramp 1 --seed 7 --for 0.2 --prefix cli"
    async with platform(broker, answer) as there:
        ended = await fleet(broker.url, *words.split())
    pages = [request.params["devices"] for request in there.asked]
    assert ended.code == 0, ended.err
    assert sum(len(page) for page in pages) == 1100
    assert all(len(page) <= 500 for page in pages)
    assert all(request.params["skip_existing"] for request in there.asked)
    note = json.loads(ended.err.splitlines()[0])
    assert note["details"] == {"new": 1100 - len(pages), "known": len(pages)}
