"""The MQTT port against a real Mosquitto, and the private parts of aiomqtt and paho it leans on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import aiomqtt
import paho.mqtt.client as paho
import psutil
import pytest

from fleet_core.contract.errors import ConfigError
from fleet_core.contract.publication import Delivery
from fleet_core.runtime.backoff import Backoff
from fleet_core.runtime.mqtt import (
    MAX_UNCONFIRMED,
    MAX_UNWRITTEN,
    Address,
    Connection,
    ConnectionLost,
    Publication,
    SubscriptionRefused,
    connect,
)
from tests.fixtures.brokers import RunningBroker, start_mosquitto

pytestmark = pytest.mark.mosquitto
TIMEOUT_S = 10


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RunningBroker]:
    with start_mosquitto(tmp_path) as running:
        yield running


async def take(connection: Connection, count: int) -> list[Delivery]:
    taken: list[Delivery] = []
    async with asyncio.timeout(TIMEOUT_S):
        while len(taken) < count:
            taken += await connection.receive(count - len(taken))
    return taken


async def test_unacknowledged_messages_come_again_in_order_and_acknowledged_ones_do_not(
    broker: RunningBroker,
) -> None:
    address = Address.parse(broker.url)
    async with connect(address, "consumer") as consumer:
        await consumer.subscribe([("t/#", 1)])
        async with connect(address, "producer") as producer:
            await producer.publish_all([Publication(f"t/{n}", b"") for n in range(5)])
        first = await take(consumer, 5)
        consumer.acknowledge(first[:2])
        await consumer.publish(Publication("elsewhere", b""))  # the acknowledgements are out
        consumer.abort()
    async with connect(address, "consumer") as again:
        second = await take(again, 3)
        again.acknowledge(second)
    assert [d.topic for d in second] == ["t/2", "t/3", "t/4"]
    async with connect(address, "consumer") as third, connect(address, "producer") as producer:
        await producer.publish(Publication("t/last", b""))
        assert [d.topic for d in await take(third, 1)] == ["t/last"]


async def test_an_acknowledgement_after_the_loss_is_not_sent(broker: RunningBroker) -> None:
    address = Address.parse(broker.url)
    async with connect(address, "consumer") as consumer:
        await consumer.subscribe([("t", 1)])
        async with connect(address, "producer") as producer:
            await producer.publish(Publication("t", b"kept"))
        deliveries = await take(consumer, 1)
        consumer.abort()
        consumer.acknowledge(deliveries)
    async with connect(address, "consumer") as again:
        assert [d.payload for d in await take(again, 1)] == [b"kept"]


@pytest.mark.parametrize("count", [1, 700])
async def test_a_batch_is_acknowledged_whole(broker: RunningBroker, count: int) -> None:
    address = Address.parse(broker.url)
    async with connect(address, "consumer") as consumer, connect(address, "producer") as producer:
        await consumer.subscribe([("t/#", 1)])
        await producer.publish_all([Publication(f"t/{n}", bytes(2000)) for n in range(count)])
        consumer.acknowledge(await take(consumer, count))
        await consumer.publish(Publication("elsewhere", b""))  # the broker has read them all
    async with connect(address, "consumer") as again, connect(address, "producer") as producer:
        await producer.publish(Publication("t/new", b""))
        assert [d.topic for d in await take(again, 1)] == ["t/new"]


async def test_messages_at_qos_0_arrive_in_order_and_whole(broker: RunningBroker) -> None:
    address = Address.parse(broker.url)
    told = [Publication(f"t/ä{n}", bytes(1 + n * 40), 0, retain=n % 2 == 0) for n in range(500)]
    async with connect(address, "consumer") as consumer, connect(address, "producer") as producer:
        await consumer.subscribe([("t/#", 1)])
        await producer.publish_all([*told, Publication("t/last", b"", 1)])
        received = await take(consumer, 501)
    assert [(d.topic, len(d.payload), d.qos) for d in received] == [
        *((p.topic, len(p.payload), 0) for p in told),
        ("t/last", 0, 1),
    ]
    async with connect(address, "late") as late:
        await late.subscribe([("t/#", 1)])
        assert len(await take(late, 250)) == 250


async def test_what_a_broker_does_not_read_at_qos_0_is_dropped_and_counted(
    broker: RunningBroker,
) -> None:
    async with connect(Address.parse(broker.url), "p") as connection:
        psutil.Process(broker.pid).suspend()
        for _ in range(MAX_UNWRITTEN + 200):
            await connection.publish(Publication("t", bytes(90_000), 0))
        assert connection.dropped == 200
        psutil.Process(broker.pid).resume()
        await connection.publish(Publication("t", b"", 1))


async def test_a_filter_that_was_given_up_is_heard_no_more(broker: RunningBroker) -> None:
    address = Address.parse(broker.url)
    async with connect(address, "consumer") as consumer, connect(address, "producer") as producer:
        await consumer.unsubscribe([])
        await consumer.unsubscribe(["never/held", "$share/g/never/held"])
        await consumer.subscribe([("old", 1), ("new", 1)])
        await consumer.unsubscribe(["old"])
        await producer.publish_all([Publication("old", b""), Publication("new", b"")])
        assert [d.topic for d in await take(consumer, 1)] == ["new"]


async def test_publishing_returns_after_every_puback(broker: RunningBroker) -> None:
    address = Address.parse(broker.url)
    total = 2 * MAX_UNCONFIRMED + 1
    async with connect(address, "consumer") as consumer, connect(address, "producer") as producer:
        await consumer.subscribe([("t/+", 1)])
        await producer.publish_all([Publication(f"t/{n}", b"x") for n in range(total)])
        received = await take(consumer, total)
    assert [d.topic for d in received] == [f"t/{n}" for n in range(total)]


async def test_a_stopped_broker_wakes_everybody_who_waits(broker: RunningBroker) -> None:
    async with connect(Address.parse(broker.url), "waiter") as connection:
        waiting = asyncio.create_task(connection.receive(1))
        await asyncio.wait({waiting}, timeout=0)
        broker.kill()
        with pytest.raises(ConnectionLost):
            await asyncio.wait_for(waiting, TIMEOUT_S)
        with pytest.raises(ConnectionLost):
            await connection.publish(Publication("t", b""))
        assert connection.is_lost


async def test_a_broker_that_stops_answering_is_noticed_by_the_missing_puback(
    broker: RunningBroker,
) -> None:
    async with connect(Address.parse(broker.url), "p", timeout_s=0.5) as connection:
        process = psutil.Process(broker.pid)
        process.suspend()
        try:
            with pytest.raises(ConnectionLost, match="no PUBACK"):
                await connection.publish(Publication("t", b""))
        finally:
            process.resume()


async def test_nobody_listens(broker: RunningBroker) -> None:
    broker.stop()
    with pytest.raises(ConnectionLost, match="can't be reached"):
        async with connect(Address.parse(broker.url), "nobody"):
            pass


async def test_abort_makes_the_broker_speak_the_will(broker: RunningBroker) -> None:
    address = Address.parse(broker.url)
    async with connect(address, "listener") as listener:
        await listener.subscribe([("will", 1)])
        async with connect(address, "dying", will=Publication("will", b"gone")) as dying:
            dying.abort()
        assert [d.payload for d in await take(listener, 1)] == [b"gone"]


async def test_leaving_says_goodbye_and_the_will_is_not_spoken(broker: RunningBroker) -> None:
    address = Address.parse(broker.url)
    async with connect(address, "listener") as listener:
        await listener.subscribe([("will", 1), ("after", 1)])
        async with connect(address, "leaving", will=Publication("will", b"gone")):
            pass
        async with connect(address, "other") as other:
            await other.publish(Publication("after", b""))
        assert [d.topic for d in await take(listener, 1)] == ["after"]


async def test_a_refused_subscription_is_an_error() -> None:
    """Mosquitto's ACL file never refuses a SUBSCRIBE, so this broker is thirteen lines long."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while header := await reader.read(2):
            body = await reader.readexactly(header[1])
            if header[0] >> 4 == 1:  # CONNECT
                writer.write(b"\x20\x02\x00\x00")
            elif header[0] >> 4 == 8:  # SUBSCRIBE of two filters
                writer.write(b"\x90\x04" + body[:2] + b"\x01\x80")
            else:
                break
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with connect(Address("127.0.0.1", port), "curious") as connection:
            with pytest.raises(SubscriptionRefused) as refused:
                await connection.subscribe([("allowed", 1), ("denied", 1)])
            assert refused.value.filters == ("denied",)


async def test_a_loss_ends_the_wait_for_an_answer(broker: RunningBroker) -> None:
    """It took the whole timeout: nobody looked at the line while a SUBACK was due."""
    async with connect(Address.parse(broker.url), "asker", timeout_s=60) as connection:
        psutil.Process(broker.pid).suspend()
        asking = asyncio.create_task(connection.subscribe([("t", 1)]))
        await asyncio.wait({asking}, timeout=0)
        broker.kill()
        with pytest.raises(ConnectionLost):
            await asyncio.wait_for(asking, TIMEOUT_S)


async def test_cancelling_receive_loses_nothing(broker: RunningBroker) -> None:
    address = Address.parse(broker.url)
    async with connect(address, "consumer") as consumer, connect(address, "producer") as producer:
        await consumer.subscribe([("t", 1)])
        waiting = asyncio.create_task(consumer.receive(1))
        await asyncio.wait({waiting}, timeout=0)
        waiting.cancel()
        await producer.publish(Publication("t", b"1"))
        assert [d.payload for d in await take(consumer, 1)] == [b"1"]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1",
        "http://x",
        "mqtt://",
        "mqtt://h:port",
        "mqtt://h:70000",
        "mqtt://h/path",
        "mqtt://u:p@h",
        "mqtt://h?q",
        "mqtt://h#f",
    ],
)
def test_an_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        Address.parse(url)


def test_addresses_are_read_and_written() -> None:
    assert Address.parse("mqtt://[::1]:1884") == Address("::1", 1884)
    assert str(Address("::1", 1884)) == "mqtt://[::1]:1884"
    assert Address.parse(str(Address("localhost", 1883))) == Address("localhost", 1883)


def test_backoff_doubles_to_its_limit_and_begins_anew() -> None:
    backoff = Backoff(1, 8, random.Random(7))
    for ceiling_s in (1, 2, 4, 8, 8, 8):
        assert ceiling_s / 10 <= backoff.next_s() <= ceiling_s
    backoff.reset()
    assert backoff.next_s() <= 1


async def test_the_private_parts_this_port_leans_on_are_where_they_were() -> None:
    client = aiomqtt.Client("127.0.0.1")
    assert isinstance(client._client, paho.Client)
    assert isinstance(client._disconnected, asyncio.Future)
    for name in ("manual_ack_set", "max_inflight_messages_set", "socket", "publish"):
        assert callable(getattr(client._client, name))
    for name in ("_packet_queue", "_create_socket"):
        assert callable(getattr(client._client, name))
    assert callable(client._client._on_message_filtered.iter_match)
    assert callable(client._client.loop_misc)
    assert len(client._client._out_packet) == 0
    assert hasattr(paho.MQTTMessage(topic=b"x"), "_topic")
