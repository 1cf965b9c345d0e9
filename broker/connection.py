"""One network connection of one client: bytes to packets, and packets to bytes.

- amqtt's packet codecs do the encoding. What they raise becomes `ProtocolViolation`, and the
  connection ends: after a malformed packet nobody knows where the next one begins.
- The keepalive is enforced, mid-packet too: one and a half times what the client announced
  (MQTT 3.1.1, section 3.1.2.10). amqtt reads it and does nothing with it.
- A packet longer than the contract allows ends the connection before it is read.
"""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import msgspec
from amqtt.adapters import StreamReaderAdapter, StreamWriterAdapter
from amqtt.errors import AMQTTError, CodecError, MQTTError, NoDataError
from amqtt.mqtt import packet_class
from amqtt.mqtt.connack import CONNECTION_ACCEPTED, ConnackPacket
from amqtt.mqtt.packet import MQTTFixedHeader
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.mqtt.publish import PublishPacket
from amqtt.plugins.manager import PluginManager

from broker.delivery import Message
from broker.mosquitto import PACKET_LIMIT_BYTES

CONNECT_TIMEOUT_S = 10.0
KEEPALIVE_FACTOR = 1.5
WRITE_BUFFER_LIMIT_BYTES = 1024 * 1024
"""Above it a client counts as slow: QoS 1 waits in its queue, QoS 0 is dropped."""

_CODEC_ERRORS = (AMQTTError, MQTTError, CodecError, struct.error, ValueError, KeyError, IndexError)


class ProtocolViolation(Exception):
    """The client sent what MQTT 3.1.1 or the limits don't allow. Ends the connection."""


class ConnectionEnded(Exception):
    """Nothing more can be read: end of stream, a reset, or silence beyond the keepalive."""


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """What a CONNECT packet says. `keepalive_s` 0 means that the client announced none."""

    client_id: str
    clean_session: bool
    keepalive_s: int
    will: Message | None = None


class Connection:
    """A TCP connection. `hello` is read first and once."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = StreamReaderAdapter(reader)
        self._writer = writer
        self._keepalive_limit_s: float | None = None

    async def hello(self, plugins: PluginManager[Any]) -> Hello:
        """Read CONNECT. Raises `ProtocolViolation`, `ConnectionEnded`."""
        adapter = StreamWriterAdapter(self._writer)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, session = await BrokerProtocolHandler.init_from_connect(
                    self._reader, adapter, plugins
                )
        except (NoDataError, OSError) as error:
            raise ConnectionEnded("no CONNECT") from error
        except _CODEC_ERRORS as error:
            raise ProtocolViolation(f"no valid CONNECT: {error}") from error
        if session.keep_alive:
            self._keepalive_limit_s = session.keep_alive * KEEPALIVE_FACTOR
        return Hello(
            client_id=session.client_id,
            clean_session=session.clean_session,
            keepalive_s=session.keep_alive,
            will=_will(session) if session.will_flag else None,
        )

    async def receive(self) -> Any:
        """The next packet. Raises `ProtocolViolation`, `ConnectionEnded`."""
        try:
            async with asyncio.timeout(self._keepalive_limit_s):
                await self._writer.drain()
                header = await MQTTFixedHeader.from_stream(self._reader)
                if header is None:
                    raise ConnectionEnded("end of stream")
                if header.remaining_length > PACKET_LIMIT_BYTES:
                    raise ProtocolViolation(f"a packet of {header.remaining_length} bytes")
                return await packet_class(header).from_stream(self._reader, fixed_header=header)
        except TimeoutError as error:
            raise ConnectionEnded(f"silent for {self._keepalive_limit_s} s") from error
        except (NoDataError, OSError) as error:
            raise ConnectionEnded(str(error)) from error
        except _CODEC_ERRORS as error:
            raise ProtocolViolation(f"malformed packet: {error}") from error

    def welcome(self, *, session_present: bool) -> None:
        """Answer CONNECT with yes."""
        self.send(ConnackPacket.build(int(session_present), CONNECTION_ACCEPTED))

    def send(self, packet: Any) -> None:
        """Write a packet of amqtt's; nothing once the connection is closing."""
        if not self.closing:
            self._writer.write(packet.to_bytes())

    def send_message(self, message: Message, packet_id: int | None, *, again: bool = False) -> None:
        """Write a PUBLISH; `again` sets its duplicate flag."""
        self.send(
            PublishPacket.build(
                message.topic, message.payload, packet_id, again, message.qos, message.retain
            )
        )

    @property
    def slow(self) -> bool:
        """Whether the client leaves more unread than it should."""
        return self._writer.transport.get_write_buffer_size() > WRITE_BUFFER_LIMIT_BYTES

    @property
    def closing(self) -> bool:
        """Whether the connection is closed, or will be once everything is sent."""
        return self._writer.is_closing()

    def close(self) -> None:
        """Send what was written, then close."""
        self._writer.close()

    def abort(self) -> None:
        """Close at once; what was written and not sent is lost."""
        self._writer.transport.abort()


def _will(session: Any) -> Message:
    return Message(
        topic=session.will_topic,
        payload=bytes(session.will_message),
        qos=session.will_qos,
        retain=session.will_retain,
    )
