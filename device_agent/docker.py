"""Connectors that are Docker containers: the engine is asked over its own socket, by plain HTTP.

- `GET /containers/json?all=1`; a container whose name matches the pattern is a connector.
- The type is the value of a label, or else the image's name without registry and tag.
- A container that ended with 0, or by SIGTERM or SIGKILL, was stopped; any other code is a failure.
- An answer has 5 s and 2 MiB, its head 16 KiB.

Source: Docker Engine API v1.41, `ContainerList`; RFC 9112 for the framing of the answer.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import msgspec

from device_agent.connectors import ProviderFailed
from fleet_core.contract.messages import Connector, ConnectorStatus

TIMEOUT_S = 5.0
HEAD_LIMIT_BYTES = 16 * 1024
BODY_LIMIT_BYTES = 2 * 1024 * 1024
_REQUEST = b"GET /containers/json?all=1 HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n"
_EXIT_CODE = re.compile(r"Exited \((\d+)\)")
_STOPPED_CODES = frozenset({0, 137, 143})
_STATUSES = {
    "running": ConnectorStatus.RUNNING,
    "restarting": ConnectorStatus.STARTING,
    "created": ConnectorStatus.STOPPED,
    "paused": ConnectorStatus.STOPPED,
    "removing": ConnectorStatus.STOPPED,
    "dead": ConnectorStatus.FAILED,
}


class _Container(msgspec.Struct, rename="pascal"):
    names: list[str] = []
    image: str = ""
    state: str = ""
    status: str = ""
    labels: dict[str, str] | None = None


class DockerSocket:
    """Asks the engine behind `socket_path`."""

    def __init__(self, socket_path: Path, name_pattern: str, type_label: str) -> None:
        self._socket_path = socket_path
        self._name_pattern = re.compile(name_pattern)
        self._type_label = type_label

    async def read(self) -> list[Connector]:
        """The matching containers, running or not, by name. Raises `ProviderFailed`."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                body = await self._ask()
            containers = msgspec.json.decode(body, type=list[_Container])
        except TimeoutError as error:
            raise ProviderFailed(f"no answer within {TIMEOUT_S:g} s") from error
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            raise ProviderFailed(str(error)[:200]) from error
        connectors = [self._connector(container) for container in containers]
        return sorted((c for c in connectors if c is not None), key=lambda c: c.name)

    def _connector(self, container: _Container) -> Connector | None:
        name = container.names[0].lstrip("/") if container.names else ""
        if not name or self._name_pattern.search(name) is None:
            return None
        label = (container.labels or {}).get(self._type_label)
        return Connector(
            name=name, type=label or image_name(container.image), status=status(container)
        )

    async def _ask(self) -> bytes:
        reader, writer = await asyncio.open_unix_connection(
            self._socket_path, limit=HEAD_LIMIT_BYTES
        )
        try:
            writer.write(_REQUEST)
            await writer.drain()
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            if head[0].split(" ")[1:2] != ["200"]:
                raise ProviderFailed(f"the engine answered {head[0][:80]!r}")
            return await _body(reader, _headers(head[1:]))
        finally:
            writer.close()


def status(container: _Container) -> ConnectorStatus:
    """What a container's state means for a connector."""
    if container.state == "running" and "(unhealthy)" in container.status:
        return ConnectorStatus.FAILED
    if container.state == "running" and "(health: starting)" in container.status:
        return ConnectorStatus.STARTING
    if container.state == "exited":
        code = _EXIT_CODE.match(container.status)
        stopped = code is None or int(code[1]) in _STOPPED_CODES
        return ConnectorStatus.STOPPED if stopped else ConnectorStatus.FAILED
    return _STATUSES.get(container.state, ConnectorStatus.UNKNOWN)


def image_name(image: str) -> str:
    """The last word of an image's name.

    >>> image_name("registry.example:5000/lab/modbus-bridge:1.4@sha256:00")
    'modbus-bridge'
    """
    return image.partition("@")[0].rpartition("/")[2].partition(":")[0]


def _headers(lines: list[str]) -> dict[str, str]:
    pairs = (line.partition(":") for line in lines if line)
    return {name.strip().lower(): value.strip().lower() for name, _, value in pairs}


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").endswith("chunked"):
        return await _chunked_body(reader)
    length = headers.get("content-length")
    if length is None:
        return await _body_until_end(reader)
    return await reader.readexactly(_checked(int(length)))


async def _chunked_body(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while size_bytes := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        _checked(len(body) + size_bytes)
        body += await reader.readexactly(size_bytes)
        await reader.readexactly(2)
    return bytes(body)


async def _body_until_end(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while piece := await reader.read(HEAD_LIMIT_BYTES):
        _checked(len(body) + len(piece))
        body += piece
    return bytes(body)


def _checked(size_bytes: int) -> int:
    if not 0 <= size_bytes <= BODY_LIMIT_BYTES:
        raise ProviderFailed(f"an answer of {size_bytes} bytes; at most {BODY_LIMIT_BYTES}")
    return size_bytes
