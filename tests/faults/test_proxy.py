"""The proxy does to a line what it says it does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.fixtures.brokers import HOST
from tests.fixtures.eventually import eventually
from tests.fixtures.proxy import Framer, Proxy, packet_id, start_proxy

PING = b"\xc0\x00"
PUBACK_7 = b"\x40\x02\x00\x07"
PUBLISH_7 = b"\x32\x06\x00\x01a\x00\x07x"
LONG = b"\x30\xac\x02" + b"x" * 300


def test_packets_are_found_in_any_cut_of_the_stream() -> None:
    packets = [PING, PUBLISH_7, LONG, PUBACK_7]
    stream = b"".join(packets)
    for size in (1, 2, 3, 7, len(stream)):
        framer = Framer()
        parts = [stream[start : start + size] for start in range(0, len(stream), size)]
        assert [packet for part in parts for packet in framer.feed(part)] == packets


def test_ids_of_packets() -> None:
    assert [packet_id(p) for p in (PUBACK_7, PUBLISH_7, PING, LONG)] == [7, 7, None, None]


@asynccontextmanager
async def line() -> AsyncIterator[
    tuple[Proxy, asyncio.StreamWriter, asyncio.StreamReader, asyncio.StreamReader]
]:
    """A proxy; the client's writer and reader; what the broker's end reads."""
    far: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far.put_nowait((reader, writer))

    server = await asyncio.start_server(accept, HOST, 0)
    async with start_proxy(server.sockets[0].getsockname()[1]) as proxy:
        reader, writer = await asyncio.open_connection(HOST, proxy.port)
        far_reader, far_writer = await far.get()
        try:
            yield proxy, writer, reader, far_reader
        finally:
            writer.close()
            far_writer.close()
            server.close()


async def test_what_is_held_flows_on_after_the_hold() -> None:
    async with line() as (proxy, writer, _, far_reader):
        proxy.black_hole()
        writer.write(PING)
        await eventually(lambda: proxy.up.held_packets == 1)
        proxy.heal()
        assert await far_reader.readexactly(2) == PING


async def test_the_line_holds_after_so_many_pubacks() -> None:
    async with line() as (proxy, writer, _, far_reader):
        proxy.up.pubacks_until_hold = 2
        writer.write(PUBACK_7 * 3 + PING)
        assert await far_reader.readexactly(8) == PUBACK_7 * 2
        await eventually(lambda: proxy.up.held_packets == 1)
        proxy.heal()
        assert await far_reader.readexactly(6) == PUBACK_7 + PING


async def test_a_packet_is_torn_and_the_line_reset() -> None:
    async with line() as (proxy, writer, reader, far_reader):
        proxy.up.tear_after_packets = 1
        writer.write(PING + PUBLISH_7)
        with pytest.raises(ConnectionError):
            await reader.read(1)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await far_reader.readexactly(len(PING + PUBLISH_7))


async def test_one_byte_at_a_time_keeps_every_byte() -> None:
    async with line() as (proxy, writer, _, far_reader):
        proxy.up.slice_bytes = 1
        writer.write(LONG + PING)
        assert await far_reader.readexactly(len(LONG + PING)) == LONG + PING


async def test_a_slow_line_takes_its_time() -> None:
    async with line() as (proxy, writer, _, far_reader):
        proxy.up.bytes_per_s = 1000
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        writer.write(LONG)
        writer.write(PING)
        assert await far_reader.readexactly(len(LONG + PING)) == LONG + PING
        assert loop.time() - began_s >= 0.25


async def test_an_acknowledgement_without_a_delivery_is_seen() -> None:
    async with line() as (proxy, writer, _, far_reader):
        writer.write(PUBACK_7)
        assert await far_reader.readexactly(4) == PUBACK_7
        assert proxy.connections[0].stale_ids == [7]


async def test_a_cut_resets_both_ends() -> None:
    async with line() as (proxy, _, reader, far_reader):
        proxy.cut()
        for end in (reader, far_reader):
            with pytest.raises(ConnectionError):
                await end.read(1)
