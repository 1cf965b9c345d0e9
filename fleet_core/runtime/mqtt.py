"""The MQTT port: everything this project asks of an MQTT client library, and nothing more.

Rules:

- One `Connection` is one connection generation. After a loss it is dead, with all that it held:
  message ids of an old generation would acknowledge other messages in a new one, so neither an
  unacknowledged delivery nor an unconfirmed publication outlives it.
- QoS 1 deliveries are acknowledged by `acknowledge`, never on arrival.
- Of QoS 1 the inbox is not bounded here: with manual acknowledgement the broker's in-flight window
  is the bound, and dropping a message that the broker counts as delivered would lose it. QoS 0
  knows no window: beyond `MAX_UNREAD` its messages are dropped and counted.
- A subscription the broker refuses is an error, not a reason code nobody reads.

aiomqtt 2 over paho-mqtt 2 sits behind it; `tests/integration/test_mqtt_port.py` pins the private
parts of both that this module leans on, so that an upgrade that moves them is noticed.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiomqtt
import msgspec
import paho.mqtt.client as paho
from paho.mqtt.enums import MessageType

from fleet_core.contract.errors import ConfigError, Unavailable
from fleet_core.contract.publication import Delivery, Publication
from fleet_core.runtime import packets
from fleet_core.runtime.clock import now_utc
from fleet_core.runtime.tuning import tune

__all__ = [
    "Address",
    "Connection",
    "ConnectionLost",
    "Delivery",
    "Publication",
    "SubscriptionRefused",
    "connect",
]

T = TypeVar("T")

DEFAULT_PORT = 1883
MAX_UNCONFIRMED = 1000
"""Publications of one `publish_all` that may wait for their PUBACK at a time."""
MAX_UNREAD = 4000
"""Messages that may wait to be received before those at QoS 0 are dropped: the window of our
brokers, so that a flood at QoS 0 costs no more memory than one at QoS 1."""
MAX_UNWRITTEN = 1000
"""Writes that may wait for the socket before messages at QoS 0 are dropped."""
_SUBACK_FAILURE = 0x80
_UNSPECIFIED = 0x80
"""Paho's reason for a line that broke: no reason."""


class ConnectionLost(Unavailable):
    """There is no connection to the broker, or there was one and it is gone."""


class SubscriptionRefused(Unavailable):
    """The broker answered a SUBSCRIBE with 0x80. `filters` are the ones it refused."""

    def __init__(self, filters: Sequence[str]) -> None:
        super().__init__(f"the broker refused {', '.join(filters)}")
        self.filters = tuple(filters)


class Address(msgspec.Struct, frozen=True):
    """Where a broker listens."""

    host: str
    port: int

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read `mqtt://host[:port]`. Raises `ConfigError`.

        >>> Address.parse("mqtt://127.0.0.1")
        Address(host='127.0.0.1', port=1883)
        """
        try:
            parts = urlsplit(url)
            port = parts.port or DEFAULT_PORT
        except ValueError as error:
            raise ConfigError(f"{url!r} is no broker URL: {error}") from error
        rest = (parts.username, parts.password, parts.query, parts.fragment, parts.path.strip("/"))
        if parts.scheme != "mqtt" or not parts.hostname or any(rest):
            raise ConfigError(f"{url!r} is no broker URL; it looks like mqtt://127.0.0.1:1883")
        return cls(parts.hostname, port)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"mqtt://{host}:{self.port}"


class _Confirmation:
    """Counts the PUBACKs one `publish_all` still waits for."""

    __slots__ = ("done", "missing")

    def __init__(self, future: asyncio.Future[None]) -> None:
        self.missing = 0
        self.done = future


class Connection:
    """One live connection. Made by `connect`; not reusable."""

    def __init__(self, client: aiomqtt.Client, timeout_s: float) -> None:
        self._client = client
        self._paho: paho.Client = client._client
        self._loop = asyncio.get_running_loop()
        self.timeout_s = timeout_s
        self._inbox: deque[Delivery] = deque()
        self._arrived = asyncio.Event()
        self._unconfirmed: dict[int, _Confirmation] = {}
        self._lost: str | None = None
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self.dropped = 0
        tune(self._paho)
        self._paho.on_socket_register_write = self._on_writable_wanted
        self._paho.on_message = self._on_message
        self._paho.on_publish = self._on_publish

    async def subscribe(self, filters: Sequence[tuple[str, int]]) -> None:
        """Subscribe to `(filter, qos)` pairs. Raises `SubscriptionRefused`, `ConnectionLost`."""
        codes = await self._answer(self._client.subscribe(list(filters), timeout=self.timeout_s))
        refused = [
            topic_filter
            for (topic_filter, _), code in zip(filters, codes, strict=True)
            if _value(code) >= _SUBACK_FAILURE
        ]
        if refused:
            raise SubscriptionRefused(refused)

    async def unsubscribe(self, filters: Sequence[str]) -> None:
        """Give up filters, whether they are held or not. Raises `ConnectionLost`."""
        if not filters:
            return
        await self._answer(self._client.unsubscribe(list(filters), timeout=self.timeout_s))

    async def publish(self, publication: Publication) -> None:
        """Publish one message and, at QoS 1, wait for its PUBACK. Raises `ConnectionLost`."""
        await self.publish_all((publication,))

    async def publish_all(self, publications: Sequence[Publication]) -> None:
        """Publish, pipelined, and wait until all at QoS 1 are confirmed. Of each quality of service
        the order is kept; what is at QoS 0 goes first.

        When it raises `ConnectionLost`, any of them may or may not have arrived.
        """
        for start in range(0, len(publications), MAX_UNCONFIRMED):
            await self._publish_window(publications[start : start + MAX_UNCONFIRMED])

    async def receive(self, limit: int) -> list[Delivery]:
        """Wait for at least one delivery and take up to `limit`, in order of arrival.

        Raises `ConnectionLost`. Cancelling it loses nothing.
        """
        while not self._inbox:
            self._raise_if_lost()
            self._arrived.clear()
            await self._arrived.wait()
        self._raise_if_lost()
        inbox = self._inbox
        return [inbox.popleft() for _ in range(min(limit, len(inbox)))]

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Send PUBACK for each QoS 1 delivery, in the order given; nothing once the line is cut."""
        acknowledged = packets.pubacks([d.mid for d in deliveries if d.qos])
        if acknowledged and self._lost is None:
            self._write(acknowledged)

    def abort(self) -> None:
        """Cut the socket without DISCONNECT, as a power cut would: the broker speaks the will."""
        line: Any = self._paho.socket()
        if line is not None:
            with contextlib.suppress(OSError):  # the other end was faster
                line.shutdown(socket.SHUT_RDWR)
        self.mark_lost("aborted")

    @property
    def is_lost(self) -> bool:
        """Whether the connection is known to be gone."""
        return self._lost is not None

    def mark_lost(self, reason: str) -> None:
        """Wake everybody who waits on this connection."""
        if self._lost is None:
            self._lost = reason
            self._gone.set_result(None)
        self._arrived.set()
        for confirmation in set(self._unconfirmed.values()):
            if not confirmation.done.done():
                confirmation.done.set_exception(ConnectionLost(self._lost))
        self._unconfirmed.clear()

    async def _publish_window(self, publications: Sequence[Publication]) -> None:
        self._raise_if_lost()
        self._write_unconfirmed([p for p in publications if p.qos == 0])
        confirmation = _Confirmation(asyncio.get_running_loop().create_future())
        for publication in publications:
            if publication.qos == 0:
                continue
            info = self._paho.publish(
                publication.topic, publication.payload, publication.qos, publication.retain
            )
            if info.rc not in (paho.MQTT_ERR_SUCCESS, paho.MQTT_ERR_QUEUE_SIZE):
                self.mark_lost(paho.error_string(info.rc))
                break
            confirmation.missing += 1
            self._unconfirmed[info.mid] = confirmation
        if confirmation.done.done():
            confirmation.done.exception()
        self._raise_if_lost()
        if confirmation.missing:
            try:
                # Not wait_for: on Python 3.11 it can swallow a cancellation that comes together
                # with the PUBACK.
                async with asyncio.timeout(self.timeout_s):
                    await confirmation.done
            except TimeoutError:
                self.mark_lost(f"no PUBACK within {self.timeout_s:g} s")
                raise ConnectionLost(f"no PUBACK within {self.timeout_s:g} s") from None

    def _write_unconfirmed(self, publications: Sequence[Publication]) -> None:
        """Messages at QoS 0 in one write; dropped and counted where the broker doesn't read."""
        if publications and len(self._paho._out_packet) >= MAX_UNWRITTEN:
            self.dropped += len(publications)
        elif publications:
            self._write(
                b"".join(
                    [
                        packets.publish(p.topic.encode(), p.payload, retain=p.retain)
                        for p in publications
                    ]
                )
            )

    def _write(self, data: bytes) -> None:
        """Queue whole packets as one. paho looks at the type only to know what follows: of a
        PUBACK nothing does."""
        self._paho._packet_queue(MessageType.PUBACK, data, 0, 0)

    async def _answer(self, call: Coroutine[Any, Any, T]) -> T:
        """The broker's answer to `call`; aiomqtt alone would wait its whole timeout for one that
        can't come any more."""
        task = asyncio.create_task(call)
        try:
            either: set[asyncio.Future[Any]] = {task, self._gone}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            self._raise_if_lost()
            return await task
        except aiomqtt.MqttError as error:
            raise ConnectionLost(str(error)) from error
        finally:
            task.cancel()

    def _raise_if_lost(self) -> None:
        if self._lost is not None:
            raise ConnectionLost(self._lost)

    def _on_writable_wanted(self, _client: paho.Client, _userdata: Any, line: Any) -> None:
        """As in aiomqtt, but for a socket that may be closed before the loop comes to it. paho
        calls this from the thread that connects, too."""

        def write() -> None:
            try:
                self._paho.loop_write()
            except (OSError, ValueError) as error:
                self.mark_lost(f"writing failed: {error}")

        def register() -> None:
            if line.fileno() >= 0:
                self._loop.add_writer(line.fileno(), write)

        self._loop.call_soon_threadsafe(register)

    def _on_message(self, _client: paho.Client, _userdata: Any, message: paho.MQTTMessage) -> None:
        if message.qos == 0 and len(self._inbox) >= MAX_UNREAD:
            self.dropped += 1
            return
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = repr(message._topic)
        self._inbox.append(
            Delivery(
                topic, bytes(message.payload), message.retain, now_utc(), message.qos, message.mid
            )
        )
        self._arrived.set()

    def _on_publish(
        self, _client: paho.Client, _userdata: Any, mid: int, _code: Any, _properties: Any
    ) -> None:
        confirmation = self._unconfirmed.pop(mid, None)
        if confirmation is None:
            return
        confirmation.missing -= 1
        if confirmation.missing == 0 and not confirmation.done.done():
            confirmation.done.set_result(None)


@contextlib.asynccontextmanager
async def connect(
    address: Address,
    client_id: str,
    *,
    will: Publication | None = None,
    clean_session: bool = False,
    keepalive_s: int = 30,
    timeout_s: float = 10.0,
) -> AsyncIterator[Connection]:
    """Open a connection and close it with DISCONNECT. Raises `ConnectionLost` if there is none.

    `clean_session=False` asks the broker to keep subscriptions and unacknowledged messages for
    `client_id`. `will` is what the broker publishes when the line breaks.
    """
    client = aiomqtt.Client(
        address.host,
        address.port,
        identifier=client_id,
        clean_session=clean_session,
        keepalive=keepalive_s,
        timeout=timeout_s,
        will=None if will is None else aiomqtt.Will(*msgspec.structs.astuple(will)),
    )
    connection = Connection(client, timeout_s)
    try:
        await client.__aenter__()
    except (aiomqtt.MqttError, OSError, ValueError) as error:
        raise ConnectionLost(f"{address} can't be reached: {error}") from error
    client._disconnected.add_done_callback(lambda future: connection.mark_lost(_why(future)))
    try:
        yield connection
    finally:
        await _leave(client, connection)


def _packet(publication: Publication) -> bytes:
    """A message at QoS 0."""
    topic = publication.topic.encode()
    return packets.publish(topic, publication.payload, retain=publication.retain)


def _value(code: Any) -> int:
    """A reason code is a plain number in MQTT 3.1.1 and an object in MQTT 5."""
    return int(getattr(code, "value", code))


def _why(disconnected: asyncio.Future[None]) -> str:
    error = None if disconnected.cancelled() else disconnected.exception()
    if isinstance(error, aiomqtt.MqttCodeError) and _code(error.rc) == _UNSPECIFIED:
        return "the connection broke"
    return f"the connection broke: {error}" if error else "the connection was closed"


def _code(rc: Any) -> int | None:
    """The number of what aiomqtt calls `rc`: a number, a reason code or nothing."""
    return None if rc is None else _value(rc)


async def _leave(client: aiomqtt.Client, connection: Connection) -> None:
    """Say DISCONNECT where there is still somebody to hear it; leave no socket behind."""
    if connection.is_lost:
        await asyncio.wait((client._disconnected,), timeout=connection.timeout_s)
    with contextlib.suppress(aiomqtt.MqttError):  # lost while leaving is what leaving wanted
        await client.__aexit__(None, None, None)
