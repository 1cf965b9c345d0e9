"""A message on its way out, and a message as it came in; known without knowing MQTT."""

from __future__ import annotations

from datetime import datetime

import msgspec


class Publication(msgspec.Struct, frozen=True, gc=False):
    """A message to be published."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """A message as it arrived. `received_at` is this process's time (UTC); `mid` belongs to the
    connection generation that received it."""

    topic: str
    payload: bytes
    retain: bool
    received_at: datetime
    qos: int = 1
    mid: int = 0
