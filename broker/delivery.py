"""What one client is owed: messages on the way to it, and messages that wait for their turn.

- A QoS 1 message leaves only with its PUBACK. A connection that ends leaves everything where it
  was; the next one gets the unacknowledged again, marked as duplicates, in the old order
  (MQTT 3.1.1, sections 4.4 and 4.6). amqtt drops a message 5 s after it was sent.
- Both lists are bounded. When the waiting list is full the newest message is dropped and counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import msgspec

MAX_INFLIGHT_MESSAGES = 4000
"""Sent and not acknowledged: what a handler may collect before it commits."""
MAX_WAITING_MESSAGES = 100_000
MAX_WAITING_BYTES = 64 * 1024 * 1024
MAX_PACKET_ID = 65535


class Message(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An application message. `retain` is the flag its receiver sees."""

    topic: str
    payload: bytes
    qos: int
    retain: bool = False


class DeliveryQueue:
    """QoS 1 messages of one session, in order. Does no I/O.

    >>> queue = DeliveryQueue()
    >>> queue.add(Message(topic="a", payload=b"", qos=1))
    True
    >>> packet_id, _ = queue.next()
    >>> queue.acknowledge(packet_id), queue.acknowledge(packet_id)
    (True, False)
    """

    def __init__(self) -> None:
        self.dropped_count = 0
        self._inflight: dict[int, Message] = {}
        self._waiting: deque[Message] = deque()
        self._waiting_bytes = 0
        self._last_packet_id = 0

    def __len__(self) -> int:
        return len(self._inflight) + len(self._waiting)

    @property
    def inflight_count(self) -> int:
        """How many were sent and not acknowledged."""
        return len(self._inflight)

    @property
    def ready(self) -> bool:
        """Whether `next` has something to give."""
        return bool(self._waiting) and len(self._inflight) < MAX_INFLIGHT_MESSAGES

    def add(self, message: Message) -> bool:
        """Let `message` wait for its turn. False when there is no room: it is dropped."""
        size_bytes = len(message.payload)
        if (
            len(self._waiting) >= MAX_WAITING_MESSAGES
            or self._waiting_bytes + size_bytes > MAX_WAITING_BYTES
        ):
            self.dropped_count += 1
            return False
        self._waiting.append(message)
        self._waiting_bytes += size_bytes
        return True

    def next(self) -> tuple[int, Message]:
        """The next message to send and its packet id. Only while `ready`."""
        message = self._waiting.popleft()
        self._waiting_bytes -= len(message.payload)
        packet_id = self._free_packet_id()
        self._inflight[packet_id] = message
        return packet_id, message

    def acknowledge(self, packet_id: int) -> bool:
        """Forget the message of `packet_id`. False when none was on the way."""
        return self._inflight.pop(packet_id, None) is not None

    def unacknowledged(self) -> Iterator[tuple[int, Message]]:
        """What was sent and not acknowledged, oldest first: to be sent again on a reconnect."""
        yield from list(self._inflight.items())

    def _free_packet_id(self) -> int:
        """The next id of 1 to 65535 that is not on the way; the window is smaller than that."""
        packet_id = self._last_packet_id % MAX_PACKET_ID + 1
        while packet_id in self._inflight:
            packet_id = packet_id % MAX_PACKET_ID + 1
        self._last_packet_id = packet_id
        return packet_id
