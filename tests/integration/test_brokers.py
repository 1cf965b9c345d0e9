"""Both brokers keep the promises the platform leans on; what only one of them keeps says so."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from broker.embedded import EmbeddedBroker
from broker.mosquitto import PACKET_LIMIT_BYTES, MosquittoSettings, render
from fleet_core.contract.errors import ConfigError
from fleet_core.contract.topics import DEVICE_HEARTBEAT, DEVICE_STATUS, PAYLOAD_LIMIT_BYTES
from fleet_core.runtime.mqtt import (
    Address,
    Connection,
    ConnectionLost,
    Delivery,
    Publication,
    SubscriptionRefused,
    connect,
)
from tests.fixtures.brokers import (
    REPOSITORY,
    RunningBroker,
    accepts_connections,
    free_port,
    start_embedded,
    start_mosquitto,
)
from tests.fixtures.eventually import eventually

HEARTBEATS = DEVICE_HEARTBEAT.filter()
HEARTBEAT = DEVICE_HEARTBEAT.topic("gw-0001")
STATUSES = DEVICE_STATUS.filter()
STATUS = DEVICE_STATUS.topic("gw-0001")
WILL = Publication(STATUS, b"will", retain=True)


@pytest.fixture(params=[start_embedded, start_mosquitto], ids=["embedded", "mosquitto"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RunningBroker]:
    with request.param(tmp_path) as running:
        yield running


@asynccontextmanager
async def client(
    broker: RunningBroker, client_id: str, *filters: str, clean: bool = False
) -> AsyncIterator[Connection]:
    address = Address.parse(broker.url)
    async with connect(address, client_id, clean_session=clean) as connection:
        if filters:
            await connection.subscribe([(topic_filter, 1) for topic_filter in filters])
        yield connection


@asynccontextmanager
async def device(broker: RunningBroker, will: Publication = WILL) -> AsyncIterator[Connection]:
    address = Address.parse(broker.url)
    async with connect(address, "gw-0001", will=will) as connection:
        yield connection


async def take(connection: Connection, count: int) -> list[Delivery]:
    """Exactly `count` deliveries, acknowledged."""
    deliveries: list[Delivery] = []
    async with asyncio.timeout(20):
        while len(deliveries) < count:
            deliveries += await connection.receive(count - len(deliveries))
    connection.acknowledge(deliveries)
    return deliveries


async def assert_silent(connection: Connection) -> None:
    """Nothing is on the way: a message sent now is the next one to arrive."""
    await connection.publish(Publication(HEARTBEAT, b"marker"))
    (delivery,) = await take(connection, 1)
    assert delivery.payload == b"marker"


async def test_a_persistent_session_keeps_what_arrives_while_its_client_is_away(
    broker: RunningBroker,
) -> None:
    async with client(broker, "reader", HEARTBEATS):
        pass
    async with client(broker, "writer") as writer:
        await writer.publish_all([Publication(HEARTBEAT, b"%d" % n) for n in range(50)])
    async with client(broker, "reader") as reader:
        deliveries = await take(reader, 50)
    assert [int(d.payload) for d in deliveries] == list(range(50))
    assert not any(d.retain for d in deliveries)


async def test_a_clean_session_ends_with_its_connection(broker: RunningBroker) -> None:
    async with client(broker, "reader", HEARTBEATS, clean=True):
        pass
    async with client(broker, "writer") as writer:
        await writer.publish(Publication(HEARTBEAT, b"missed"))
    async with client(broker, "reader", HEARTBEATS, clean=True) as reader:
        await assert_silent(reader)


async def test_what_was_not_acknowledged_comes_again_in_order(broker: RunningBroker) -> None:
    async with client(broker, "writer") as writer:
        async with client(broker, "reader", HEARTBEATS) as reader:
            await writer.publish_all([Publication(HEARTBEAT, b"%d" % n) for n in range(30)])
            await eventually(lambda: len(reader._inbox) == 30)
            reader.acknowledge(await reader.receive(10))
            await assert_acknowledged(reader)
            reader.abort()
        async with client(broker, "reader") as reader:
            deliveries = await take(reader, 20)
    assert [int(d.payload) for d in deliveries] == list(range(10, 30))


async def assert_acknowledged(connection: Connection) -> None:
    """The broker has read what was sent before: a PUBACK comes back in order."""
    await connection.publish(Publication(DEVICE_STATUS.topic("gw-9999"), b"marker"))


async def test_two_thousand_messages_wait_for_one_acknowledgement(broker: RunningBroker) -> None:
    async with (
        client(broker, "reader", HEARTBEATS) as reader,
        client(broker, "writer") as writer,
    ):
        await writer.publish_all([Publication(HEARTBEAT, b"%d" % n) for n in range(2000)])
        await eventually(lambda: len(reader._inbox) == 2000)
        deliveries = await take(reader, 2000)
    assert [int(d.payload) for d in deliveries] == list(range(2000))


async def test_a_retained_message_greets_only_those_who_subscribe(broker: RunningBroker) -> None:
    async with client(broker, "early", STATUSES) as early, device(broker) as sender:
        await sender.publish(Publication(STATUS, b"birth", retain=True))
        (live,) = await take(early, 1)
        async with (
            client(broker, "late", STATUSES) as late,
            client(broker, "other", HEARTBEATS) as other,
        ):
            (kept,) = await take(late, 1)
            await assert_silent(other)
    assert (live.retain, kept.retain, kept.payload) == (False, True, b"birth")


async def test_an_empty_payload_removes_a_retained_message(broker: RunningBroker) -> None:
    async with device(broker) as sender:
        await sender.publish(Publication(STATUS, b"birth", retain=True))
        await sender.publish(Publication(STATUS, b"", retain=True))
    async with client(broker, "reader", STATUSES, HEARTBEATS) as reader:
        await assert_silent(reader)


async def test_a_cut_socket_speaks_the_will_and_keeps_it(broker: RunningBroker) -> None:
    async with client(broker, "reader", STATUSES) as reader:
        async with device(broker) as lost:
            lost.abort()
        (delivery,) = await take(reader, 1)
        assert delivery.payload == b"will"
    async with client(broker, "late", STATUSES) as late:
        (delivery,) = await take(late, 1)
        assert (delivery.payload, delivery.retain) == (b"will", True)


async def test_a_clean_goodbye_speaks_no_will(broker: RunningBroker) -> None:
    async with client(broker, "reader", STATUSES, HEARTBEATS) as reader:
        async with device(broker):
            pass
        await assert_silent(reader)


async def test_a_client_that_falls_silent_is_given_up(broker: RunningBroker) -> None:
    async with client(broker, "reader", STATUSES) as reader:
        _, writer = await asyncio.open_connection("127.0.0.1", broker.port)
        writer.write(connect_packet("gw-0001", keepalive_s=1, will_topic=STATUS))
        (delivery,) = await take(reader, 1)
        assert delivery.payload == b"will"
        writer.close()


async def test_a_take_over_speaks_no_will_late_and_never_the_new_one(
    broker: RunningBroker,
) -> None:
    """The standard wants the old will spoken (3.1.2-8); Mosquitto 2.0 leaves it out when the
    session goes on. Either way nothing of it comes after the new birth."""
    async with (
        client(broker, "reader", STATUSES, HEARTBEATS) as reader,
        device(broker, Publication(STATUS, b"will of 1")) as first,
        device(broker, Publication(STATUS, b"will of 2")) as second,
    ):
        await second.publish(Publication(STATUS, b"birth of 2"))
        await second.subscribe([(DEVICE_HEARTBEAT.filter("gw-0001"), 1)])
        await second.publish(Publication(HEARTBEAT, b"still here"))
        (echo,) = await take(second, 1)
        await eventually(lambda: first.is_lost)
        await second.publish(Publication(HEARTBEAT, b"marker"))
        payloads = [b""]
        while payloads[-1] != b"marker":
            payloads += [d.payload for d in await take(reader, 1)]
    assert echo.payload == b"still here"
    assert [p for p in payloads[1:] if p != b"will of 1"] == [
        b"birth of 2",
        b"still here",
        b"marker",
    ]
    assert b"will of 1" not in payloads[2:]


async def test_the_largest_payload_passes_and_a_larger_packet_ends_its_connection(
    broker: RunningBroker,
) -> None:
    async with client(broker, "reader", HEARTBEATS) as reader:
        async with client(broker, "writer") as writer:
            await writer.publish(Publication(HEARTBEAT, b"x" * PAYLOAD_LIMIT_BYTES))
            (delivery,) = await take(reader, 1)
            assert len(delivery.payload) == PAYLOAD_LIMIT_BYTES
            with pytest.raises(ConnectionLost):
                await writer.publish(Publication(HEARTBEAT, b"x" * (PACKET_LIMIT_BYTES + 1)))
        await assert_silent(reader)


async def test_a_client_that_does_not_read_slows_nobody(broker: RunningBroker) -> None:
    deaf = socket.create_connection(("127.0.0.1", broker.port))
    deaf.sendall(connect_packet("deaf", keepalive_s=60) + subscribe_packet(HEARTBEATS))
    async with (
        client(broker, "reader", HEARTBEATS) as reader,
        client(broker, "writer") as writer,
    ):
        for start in range(0, 400, 50):
            numbers = range(start, start + 50)
            await writer.publish_all(
                [Publication(HEARTBEAT, b"%d" % n + b" " * 60_000) for n in numbers]
            )
            deliveries = await take(reader, 50)
            assert [int(d.payload) for d in deliveries] == list(numbers)
    deaf.close()


async def test_a_hundred_devices_each_hear_only_what_is_theirs(broker: RunningBroker) -> None:
    async with client(broker, "writer") as writer:

        async def hear(number: int) -> bytes:
            topic = DEVICE_HEARTBEAT.topic(f"gw-{number:04}")
            async with client(broker, f"gw-{number:04}", topic) as own:
                await writer.publish(Publication(topic, b"%d" % number))
                (delivery,) = await take(own, 1)
                return delivery.payload

        payloads = await asyncio.gather(*(hear(number) for number in range(100)))
    assert payloads == [b"%d" % number for number in range(100)]


async def test_the_lower_quality_of_service_counts(broker: RunningBroker) -> None:
    async with client(broker, "reader", HEARTBEATS) as reader, client(broker, "writer") as writer:
        await writer.publish(Publication(HEARTBEAT, b"informative", qos=0))
        (delivery,) = await take(reader, 1)
    assert delivery.qos == 0


async def test_an_invalid_filter_is_refused_by_the_embedded_broker(tmp_path: Path) -> None:
    with start_embedded(tmp_path) as broker:
        async with client(broker, "reader") as reader:
            with pytest.raises(SubscriptionRefused):
                await reader.subscribe([(f"$share/ingest/{HEARTBEATS}", 1)])


async def test_a_message_of_quality_2_is_delivered_once(broker: RunningBroker) -> None:
    async with client(broker, "reader", HEARTBEATS) as reader, client(broker, "writer") as writer:
        await writer.publish(Publication(HEARTBEAT, b"exactly", qos=2))
        await take(reader, 1)
        await assert_silent(reader)


async def test_mosquitto_keeps_sessions_over_a_restart(tmp_path: Path) -> None:
    with start_mosquitto(tmp_path) as broker:
        async with client(broker, "reader", HEARTBEATS):
            pass
        async with client(broker, "writer") as writer:
            await writer.publish(Publication(HEARTBEAT, b"kept"))
        broker.stop()
        broker.start()
        async with client(broker, "reader") as reader:
            (delivery,) = await take(reader, 1)
        assert delivery.payload == b"kept"
        broker.stop()
        broker.forget()
        broker.start()
        async with client(broker, "reader", HEARTBEATS) as reader:
            await assert_silent(reader)


async def test_a_stop_with_clients_connected_is_clean(broker: RunningBroker) -> None:
    async with client(broker, "reader", HEARTBEATS) as reader:
        pid = broker.pid
        assert broker.stop() == 0
        await eventually(lambda: reader.is_lost)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not accepts_connections(broker.port)
    assert "Traceback" not in broker.log_text()


async def test_a_killed_broker_can_be_started_again(broker: RunningBroker) -> None:
    broker.kill()
    assert not accepts_connections(broker.port)
    broker.start()
    async with client(broker, "reader", HEARTBEATS) as reader:
        await assert_silent(reader)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "", "example.org", "::", "::1%eth0"])  # noqa: S104
async def test_no_broker_listens_beyond_this_machine(host: str) -> None:
    with pytest.raises(ConfigError, match="not loopback"):
        render(MosquittoSettings(host=host, directory="/var/lib/mosquitto"))
    with pytest.raises(ConfigError, match="not loopback"):
        EmbeddedBroker(host, free_port())


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.0.0.2", "::1"])
async def test_the_embedded_broker_listens_on_every_loopback_name(host: str) -> None:
    if host == "::1" and not has_ipv6():
        pytest.skip("this machine has no IPv6 loopback")
    port = free_port()
    broker = EmbeddedBroker(host, port)
    await broker.start()
    try:
        _, writer = await asyncio.open_connection(host, port)
        writer.close()
        await writer.wait_closed()
    finally:
        await broker.shutdown()


def test_the_embedded_broker_says_in_one_line_why_it_does_not_start(broker: RunningBroker) -> None:
    command = [sys.executable, "-m", "broker", "--port", str(broker.port)]
    taken, beyond = (
        subprocess.run(
            [*command, "--host", host],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        for host in ("127.0.0.1", "192.0.2.1")
    )
    assert (taken.returncode, beyond.returncode) == (2, 2)
    assert taken.stderr == f"broker: port {broker.port} of 127.0.0.1 is taken by another program\n"
    assert beyond.stderr.count("\n") == 1
    assert "not loopback" in beyond.stderr


async def test_the_embedded_broker_does_not_outlive_its_parent() -> None:
    port = free_port()
    parent = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "import subprocess, sys; subprocess.run([sys.executable, '-m', 'broker', *sys.argv[1:]])",
        "--port",
        str(port),
        "--exit-with-parent",
        cwd=REPOSITORY,
    )
    await eventually(lambda: accepts_connections(port))
    os.kill(parent.pid, signal.SIGKILL)
    await parent.wait()
    await eventually(lambda: not accepts_connections(port))


def has_ipv6() -> bool:
    with suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


def connect_packet(client_id: str, *, keepalive_s: int, will_topic: str = "") -> bytes:
    """CONNECT of MQTT 3.1.1 with a clean session, and a will that says `will`."""
    flags = 0x02 | (0x04 | 0x08 if will_topic else 0)
    body = text("MQTT") + bytes([4, flags]) + keepalive_s.to_bytes(2) + text(client_id)
    return packet(0x10, body + (text(will_topic) + text("will") if will_topic else b""))


def subscribe_packet(topic_filter: str) -> bytes:
    """SUBSCRIBE at QoS 1."""
    return packet(0x82, b"\x00\x01" + text(topic_filter) + b"\x01")


def packet(first: int, body: bytes) -> bytes:
    assert len(body) < 128
    return bytes([first, len(body)]) + body


def text(value: str) -> bytes:
    return len(value).to_bytes(2) + value.encode()
