"""A client that respects nothing: MQTT 3.1.1 packets written by hand, valid or not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.fixtures.brokers import HOST
from tests.fixtures.proxy import PUBACK, READ_BYTES, Framer, kind_of

CONNECT_HEADER = b"\x00\x04MQTT\x04"
ANSWER_TIMEOUT_S = 5.0


def text(data: bytes) -> bytes:
    """A length and the bytes, whatever they are."""
    return len(data).to_bytes(2) + data


def packet(first_byte: int, body: bytes) -> bytes:
    """A packet with its remaining length (MQTT 3.1.1, section 2.2.3)."""
    length, digits = len(body), bytearray()
    while True:
        length, digit = divmod(length, 128)
        digits.append(digit | (0x80 if length else 0))
        if not length:
            return bytes([first_byte]) + bytes(digits) + body


class Hostile:
    """One connection. Made by `hostile_client`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._framer = Framer()
        self._number = 0

    async def connect(self, client_id: bytes, will: tuple[bytes, bytes] | None = None) -> None:
        """CONNECT, with a retained will of (topic, payload), and wait for the answer."""
        flags = 0x02 | (0x24 if will else 0)
        body = CONNECT_HEADER + bytes([flags]) + (60).to_bytes(2) + text(client_id)
        if will is not None:
            body += text(will[0]) + text(will[1])
        self._writer.write(packet(0x10, body))
        await self._answer()

    async def publish(self, topic: bytes, payload: bytes, *, retain: bool = False) -> bool:
        """PUBLISH at QoS 1. True when it was acknowledged, False when the broker hung up."""
        self._number += 1
        body = text(topic) + self._number.to_bytes(2) + payload
        try:
            self._writer.write(packet(0x32 | retain, body))
            await self._writer.drain()
            return any(kind_of(p) == PUBACK for p in await self._answer())
        except OSError:
            return False

    def abort(self) -> None:
        """Be gone without a word."""
        self._writer.transport.abort()

    async def _answer(self) -> list[bytes]:
        """What the broker says next; nothing when it hangs up, or says nothing in time."""
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                return [*self._framer.feed(await self._reader.read(READ_BYTES))]
        except TimeoutError:
            return []


@asynccontextmanager
async def hostile_client(
    port: int, client_id: bytes = b"hostile", will: tuple[bytes, bytes] | None = None
) -> AsyncIterator[Hostile]:
    """A connected client with a clean session; it never says goodbye."""
    reader, writer = await asyncio.open_connection(HOST, port)
    client = Hostile(reader, writer)
    try:
        await client.connect(client_id, will)
        yield client
    finally:
        client.abort()
