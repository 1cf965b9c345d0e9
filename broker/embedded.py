"""The embedded broker: amqtt's listeners and packets, with sessions and delivery of our own.

amqtt 0.12.1 loses messages and tells untruths in normal operation. Each was found with a probe and
has a test in `tests/integration/test_brokers.py`, which runs against Mosquitto as well:

- a client that takes its persistent session over is cut at once, and its own new will is spoken;
  with a clean session both connections live on side by side;
- a message that is not acknowledged within 5 s is dropped, and none is ever sent again;
- the persistent session of an anonymous client is forgotten a second after it left;
- a new client is sent the retained messages of everybody's subscriptions;
- the keepalive is not enforced: a client behind a dead line stays connected for ever;
- a message is delivered with the QoS of the subscription, even if it was published with less.

So a client's session lives here from CONNECT to its end. A message is routed, in the order of its
publisher, before its PUBACK is sent. Nothing survives the process: sessions, queues and retained
messages are memory, and the platform heals from the registry.

Everybody is let in, on loopback only; proof of identity and rights are the next step, and this is
where they go: `stream_connected` (who is it), `_publish` and `_subscribe` (may it).
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from amqtt.broker import Broker
from amqtt.contexts import ListenerType
from amqtt.mqtt.connect import ConnectPacket
from amqtt.mqtt.disconnect import DisconnectPacket
from amqtt.mqtt.pingreq import PingReqPacket
from amqtt.mqtt.pingresp import PingRespPacket
from amqtt.mqtt.puback import PubackPacket
from amqtt.mqtt.pubcomp import PubcompPacket
from amqtt.mqtt.publish import PublishPacket
from amqtt.mqtt.pubrec import PubrecPacket
from amqtt.mqtt.pubrel import PubrelPacket
from amqtt.mqtt.suback import SubackPacket
from amqtt.mqtt.subscribe import SubscribePacket
from amqtt.mqtt.unsuback import UnsubackPacket
from amqtt.mqtt.unsubscribe import UnsubscribePacket

from broker.connection import Connection, ConnectionEnded, Hello, ProtocolViolation
from broker.delivery import Message
from broker.session import Session
from broker.subscriptions import SubscriptionTree
from fleet_core.contract.rights import is_valid_filter, matches
from fleet_core.contract.topics import SHARE_PREFIX
from fleet_core.rules.loopback import require_loopback

MAX_RETAINED_MESSAGES = 100_000
MAX_QOS = 1
"""The contract knows QoS 0 and 1. A subscription that asks for 2 is granted 1."""
REFUSED = 0x80
SESSION_EXPIRY_S = 14 * 24 * 3600
EXPIRY_INTERVAL_S = 60
STOP_TIMEOUT_S = 1.0

log = logging.getLogger(__name__)


class EmbeddedBroker(Broker):  # type: ignore[misc]  # amqtt is not typed
    """An MQTT 3.1.1 broker in this process. `start` and `shutdown` are amqtt's.

    Raises `ConfigError` for a host that is not loopback; `start` raises amqtt's `BrokerError`, with
    the `OSError` as its cause, when it can't listen.
    """

    def __init__(self, host: str, port: int) -> None:
        require_loopback(host)
        bind = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        super().__init__({"listeners": {"default": {"type": "tcp", "bind": bind}}, "plugins": {}})
        self._clients: dict[str, Session] = {}
        self._tree = SubscriptionTree()
        self._retained: dict[str, Message] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stopping = False

    async def stream_connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listener_name: str
    ) -> None:
        """Serve one connection from CONNECT to its end. The one place that catches."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (a stream callback runs in a task)
        self._tasks.add(task)
        connection, who = Connection(reader, writer), f"a client of {listener_name}"
        try:
            hello = await connection.hello(self.plugins_manager)
            who = hello.client_id
            await self._serve(connection, hello)
            connection.close()
        except ConnectionEnded as reason:
            log.debug("%s: %s", who, reason)
        except ProtocolViolation as reason:
            log.warning("%r is disconnected: %s", who, reason)
        except Exception:
            log.exception("%r is disconnected by a bug", who)
        finally:
            if not connection.closing:
                connection.abort()
            self._tasks.discard(task)

    async def shutdown(self) -> None:
        """Stop listening, end every connection, forget everything. Wills are not spoken."""
        self._stopping = True
        for server in self._servers.values():
            server.instance.close()
        for session in self._clients.values():
            if session.connection is not None:
                session.connection.close()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=STOP_TIMEOUT_S)
            for task in late:
                task.cancel()
        await super().shutdown()

    async def _create_server_instance(
        self, listener_name: str, listener_type: ListenerType, address: str, port: int, tls: Any
    ) -> Any:
        """amqtt keeps the brackets of an IPv6 address, with which nothing can be bound."""
        return await super()._create_server_instance(
            listener_name, listener_type, address.strip("[]"), port, tls
        )

    async def _session_monitor(self) -> None:
        """Forget persistent sessions that nobody came back to; amqtt's own runs every second."""
        while True:
            await asyncio.sleep(EXPIRY_INTERVAL_S)
            oldest_s = asyncio.get_running_loop().time() - SESSION_EXPIRY_S
            for session in [s for s in self._clients.values() if s.is_away_since(oldest_s)]:
                self._forget(session)

    async def _serve(self, connection: Connection, hello: Hello) -> None:
        """A client's time on one connection: its will is spoken unless it says DISCONNECT."""
        session, session_present = self._enter(hello)
        session.attach(connection, hello.will)
        connection.welcome(session_present=session_present)
        session.resume()
        try:
            while not isinstance(packet := await connection.receive(), DisconnectPacket):
                if session.connection is not connection:
                    raise ConnectionEnded("the session was taken over")
                self._handle(session, connection, packet)
            if session.connection is connection:
                session.will = None
        finally:
            self._leave(session, connection)

    def _enter(self, hello: Hello) -> tuple[Session, bool]:
        """The session of this client, and whether it is an old one. Whoever holds it now is cut,
        and its will spoken before the newcomer is welcomed (MQTT 3.1.1, 3.1.4-2)."""
        session = self._clients.get(hello.client_id)
        if session is not None and session.connection is not None:
            log.debug("%s connects again and takes its session over", hello.client_id)
            session.connection.abort()
            self._leave(session, session.connection)
            session = self._clients.get(hello.client_id)
        if session is not None and hello.clean_session:
            self._forget(session)
            session = None
        if session is not None:
            return session, True
        session = Session(hello.client_id, clean=hello.clean_session)
        self._clients[hello.client_id] = session
        return session, False

    def _leave(self, session: Session, connection: Connection) -> None:
        """End a client's time on `connection`; nothing if that has happened already."""
        if session.connection is not connection:
            return
        will = session.detach(asyncio.get_running_loop().time())
        if session.clean:
            self._forget(session)
        if will is not None and not self._stopping:
            self._publish(will)

    def _forget(self, session: Session) -> None:
        for topic_filter in session.filters:
            self._tree.remove(topic_filter, session.client_id)
        del self._clients[session.client_id]

    def _handle(self, session: Session, connection: Connection, packet: Any) -> None:
        match packet:
            case PublishPacket():
                self._handle_publish(session, connection, packet)
            case PubackPacket():
                session.acknowledge(packet.variable_header.packet_id)
            case PubrelPacket():
                session.received_ids.discard(packet.variable_header.packet_id)
                connection.send(PubcompPacket.build(packet.variable_header.packet_id))
            case SubscribePacket():
                self._handle_subscribe(session, connection, packet)
            case UnsubscribePacket():
                for topic_filter in packet.payload.topics:
                    session.filters.discard(topic_filter)
                    self._tree.remove(topic_filter, session.client_id)
                connection.send(UnsubackPacket.build(packet.variable_header.packet_id))
            case PingReqPacket():
                connection.send(PingRespPacket.build())
            case ConnectPacket():
                raise ProtocolViolation("a second CONNECT")
            case _:
                raise ProtocolViolation(f"an unexpected {type(packet).__name__}")

    def _handle_publish(self, session: Session, connection: Connection, packet: Any) -> None:
        """Route, then acknowledge; a repeated QoS 2 message is acknowledged only (4.3.3)."""
        message = Message(
            topic=packet.topic_name,
            payload=packet.data,
            qos=packet.qos,
            retain=packet.retain_flag,
        )
        packet_id = packet.packet_id
        if packet.qos < 2 or packet_id not in session.received_ids:
            self._publish(message)
        if packet.qos == 1:
            connection.send(PubackPacket.build(packet_id))
        elif packet.qos == 2:
            session.remember(packet_id)
            connection.send(PubrecPacket.build(packet_id))

    def _handle_subscribe(self, session: Session, connection: Connection, packet: Any) -> None:
        """Answer first, then send the retained messages, in the order of the filters."""
        granted = [(f, self._subscribe(session, f, qos)) for f, qos in packet.payload.topics]
        codes = [code for _, code in granted]
        connection.send(SubackPacket.build(packet.variable_header.packet_id, codes))
        for topic_filter, qos in granted:
            if qos != REFUSED:
                self._send_retained(session, topic_filter, qos)

    def _subscribe(self, session: Session, topic_filter: str, qos: int) -> int:
        """The granted QoS or `REFUSED`. Shared subscriptions are refused: this broker would take
        `$share` for a word."""
        if not is_valid_filter(topic_filter) or topic_filter.startswith(f"{SHARE_PREFIX}/"):
            return REFUSED
        granted = min(qos, MAX_QOS)
        session.filters.add(topic_filter)
        self._tree.add(topic_filter, session.client_id, granted)
        return granted

    def _publish(self, message: Message) -> None:
        """Keep it if it is to be retained, and give it to everybody who subscribed. Topics that
        begin with `$` belong to the broker: such a message goes nowhere."""
        if not message.topic or message.topic.startswith("$"):
            return
        if message.retain:
            self._retain(message)
        for client_id, qos in self._tree.match(message.topic).items():
            self._clients[client_id].deliver(
                Message(topic=message.topic, payload=message.payload, qos=min(qos, message.qos))
            )

    def _retain(self, message: Message) -> None:
        """Replace the retained message of a topic; an empty payload removes it (3.3.1.3)."""
        if not message.payload:
            self._retained.pop(message.topic, None)
        elif message.topic in self._retained or len(self._retained) < MAX_RETAINED_MESSAGES:
            self._retained[message.topic] = message
        else:
            log.warning("%d messages are retained; %r is not", MAX_RETAINED_MESSAGES, message.topic)

    def _send_retained(self, session: Session, topic_filter: str, qos: int) -> None:
        for topic, kept in self._retained.items():
            if matches(topic_filter, topic):
                session.deliver(
                    Message(topic=topic, payload=kept.payload, qos=min(qos, kept.qos), retain=True)
                )
