"""One client as the broker knows it, over all of its connections.

- A clean session lives as long as its connection, a persistent one until it expires.
- While there is no connection QoS 1 messages wait and QoS 0 messages are dropped.
- One slow client slows nobody: whatever it does not read waits in its own bounded queue.
"""

from __future__ import annotations

import logging

from broker.connection import Connection, ProtocolViolation
from broker.delivery import DeliveryQueue, Message

MAX_RECEIVED_IDS = 1000
"""QoS 2 messages of a client that wait for its PUBREL."""

log = logging.getLogger(__name__)


class Session:
    """`filters` are its subscriptions, `will` is what to publish when its connection breaks,
    `received_ids` are the QoS 2 messages it has not released."""

    def __init__(self, client_id: str, *, clean: bool) -> None:
        self.client_id = client_id
        self.clean = clean
        self.connection: Connection | None = None
        self.will: Message | None = None
        self.filters: set[str] = set()
        self.received_ids: set[int] = set()
        self._queue = DeliveryQueue()
        self._left_at_s = 0.0

    def attach(self, connection: Connection, will: Message | None) -> None:
        """The client is here, on `connection`."""
        self.connection, self.will = connection, will

    def detach(self, at_s: float) -> Message | None:
        """The client is gone; gives the will that is now to be spoken, if any."""
        will, self.will = self.will, None
        self.connection, self._left_at_s = None, at_s
        return will

    def is_away_since(self, at_s: float) -> bool:
        """Whether there has been no connection since `at_s` of the loop's clock."""
        return self.connection is None and self._left_at_s < at_s

    def resume(self) -> None:
        """Send again what the last connection did not acknowledge, then what has waited."""
        if self.connection is None:
            return
        for packet_id, message in self._queue.unacknowledged():
            self.connection.send_message(message, packet_id, again=True)
        self._send_waiting()

    def deliver(self, message: Message) -> None:
        """Send `message` now, later, or, at QoS 0, perhaps not at all."""
        if message.qos == 0:
            if self.connection is not None and not self.connection.slow:
                self.connection.send_message(message, None)
            return
        if not self._queue.add(message) and self._queue.dropped_count == 1:
            log.warning("the queue of %r is full, messages for it are dropped", self.client_id)
        self._send_waiting()

    def acknowledge(self, packet_id: int) -> None:
        """The client confirmed a message: there is room for the next."""
        self._queue.acknowledge(packet_id)
        self._send_waiting()

    def remember(self, packet_id: int) -> None:
        """Note a QoS 2 message. Raises `ProtocolViolation` for a client that releases none."""
        if len(self.received_ids) >= MAX_RECEIVED_IDS:
            raise ProtocolViolation(f"{MAX_RECEIVED_IDS} messages wait for PUBREL")
        self.received_ids.add(packet_id)

    def _send_waiting(self) -> None:
        """Fill the window. A slow client still gets one message at a time: its PUBACK is what
        brings us back here."""
        if self.connection is None:
            return
        while self._queue.ready and not (self.connection.slow and self._queue.inflight_count):
            packet_id, message = self._queue.next()
            self.connection.send_message(message, packet_id)
