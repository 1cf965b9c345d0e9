from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from device_agent import docker
from device_agent.connectors import ProviderFailed
from device_agent.docker import BODY_LIMIT_BYTES, DockerSocket
from fleet_core.contract.messages import Connector, ConnectorStatus

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def container(name: str, state: str, status: str = "", **more: Any) -> dict[str, Any]:
    return {"Names": [f"/{name}"], "State": state, "Status": status, "Image": "lab/x:1", **more}


@asynccontextmanager
async def engine(
    tmp_path: Path, *answers: bytes, stall: bool = False
) -> AsyncIterator[DockerSocket]:
    """A real HTTP server on a Unix socket; it hands out `answers` in turn, the last for ever."""
    remaining = list(answers)
    requests: list[bytes] = []
    release = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        answer = remaining.pop(0) if len(remaining) > 1 else remaining[0]
        for start in range(0, len(answer), 7000):
            writer.write(answer[start : start + 7000])
            await writer.drain()
        if stall:
            await release.wait()
        writer.close()

    socket_path = tmp_path / "engine.sock"
    server = await asyncio.start_unix_server(serve, socket_path)
    try:
        yield DockerSocket(socket_path, "^connector-", "fleet.connector.type")
        if not stall:
            assert requests[0].startswith(b"GET /containers/json?all=1 HTTP/1.1\r\n")
    finally:
        release.set()
        server.close()
        await server.wait_closed()


def with_length(document: object, status: str = "200 OK") -> bytes:
    body = json.dumps(document).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def chunked(document: object, size: int = 11) -> bytes:
    body = json.dumps(document).encode()
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    framed = b"".join(b"%x;ext=1\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + framed + b"0\r\n\r\n"


def until_end(document: object) -> bytes:
    return b"HTTP/1.0 200 OK\r\n\r\n" + json.dumps(document).encode()


@pytest.mark.parametrize("frame", [with_length, chunked, until_end])
async def test_every_framing_of_http_is_understood(
    tmp_path: Path, frame: Callable[[object], bytes]
) -> None:
    containers = [container("connector-b", "running"), container("database", "running")]
    async with engine(tmp_path, frame(containers)) as provider:
        assert await provider.read() == [
            Connector(name="connector-b", type="x", status=ConnectorStatus.RUNNING)
        ]


@pytest.mark.parametrize(
    ("state", "status", "expected"),
    [
        ("running", "Up 3 hours", ConnectorStatus.RUNNING),
        ("running", "Up 3 hours (healthy)", ConnectorStatus.RUNNING),
        ("running", "Up 3 hours (unhealthy)", ConnectorStatus.FAILED),
        ("running", "Up 2 seconds (health: starting)", ConnectorStatus.STARTING),
        ("restarting", "Restarting (1) 2 seconds ago", ConnectorStatus.STARTING),
        ("created", "Created", ConnectorStatus.STOPPED),
        ("paused", "Up 3 hours (Paused)", ConnectorStatus.STOPPED),
        ("exited", "Exited (0) 3 hours ago", ConnectorStatus.STOPPED),
        ("exited", "Exited (137) 3 hours ago", ConnectorStatus.STOPPED),
        ("exited", "Exited (1) 3 hours ago", ConnectorStatus.FAILED),
        ("dead", "Dead", ConnectorStatus.FAILED),
        ("removing", "Removal In Progress", ConnectorStatus.STOPPED),
        ("something-new", "", ConnectorStatus.UNKNOWN),
    ],
)
async def test_states_become_statuses(
    tmp_path: Path, state: str, status: str, expected: ConnectorStatus
) -> None:
    async with engine(tmp_path, with_length([container("connector-a", state, status)])) as provider:
        assert [connector.status for connector in await provider.read()] == [expected]


async def test_a_label_names_the_type(tmp_path: Path) -> None:
    labelled = container("connector-a", "running", Labels={"fleet.connector.type": "modbus"})
    unlabelled = container(
        "connector-b", "running", Labels=None, Image="r:5000/lab/opc-ua:2@sha256:0"
    )
    async with engine(tmp_path, with_length([labelled, unlabelled])) as provider:
        assert [connector.type for connector in await provider.read()] == ["modbus", "opc-ua"]


@pytest.mark.parametrize(
    "answer",
    [
        with_length({"message": "no"}, "500 Internal Server Error"),
        with_length({"not": "a list"}),
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n[]" % (BODY_LIMIT_BYTES + 1),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % (BODY_LIMIT_BYTES + 1),
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 40_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 20_000,
        b"nonsense\r\n\r\n",
        b"",
    ],
)
async def test_a_bad_answer_is_a_failed_provider(tmp_path: Path, answer: bytes) -> None:
    async with engine(tmp_path, answer) as provider:
        with pytest.raises(ProviderFailed):
            await provider.read()


async def test_an_engine_that_does_not_answer_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker, "TIMEOUT_S", 0.05)
    async with engine(tmp_path, b"HTTP/1.1 200 OK\r\n", stall=True) as provider:
        with pytest.raises(ProviderFailed, match="no answer"):
            await provider.read()


async def test_no_engine_is_a_failed_provider(tmp_path: Path) -> None:
    with pytest.raises(ProviderFailed):
        await DockerSocket(tmp_path / "nobody.sock", "", "").read()
