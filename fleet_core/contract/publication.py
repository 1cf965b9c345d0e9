"""A message on its way out, and a message as it came in; known without knowing MQTT.

What is published follows its template: topic, retain flag, quality of service and payload limit.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from fleet_core.contract.codec import encode
from fleet_core.contract.errors import PayloadTooLarge
from fleet_core.contract.topics import Template


class Publication(msgspec.Struct, frozen=True, gc=False):
    """A message to be published."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False


def publication(
    template: Template, identity: str, message: msgspec.Struct, *, key: str = ""
) -> Publication:
    """`message` on its way to the channel of `identity`. Raises `InvalidTopic`, and
    `PayloadTooLarge` for what every receiver would refuse."""
    payload = encode(message)
    if len(payload) > template.payload_limit_bytes:
        raise PayloadTooLarge(len(payload), template.payload_limit_bytes)
    return Publication(template.topic(identity, key), payload, template.qos, template.retain)


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """A message as it arrived. `received_at` is this process's time (UTC); `mid` belongs to the
    connection generation that received it."""

    topic: str
    payload: bytes
    retain: bool
    received_at: datetime
    qos: int = 1
    mid: int = 0
