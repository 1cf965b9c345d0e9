"""The few MQTT 3.1.1 packets that are written in bulk, as bytes.

paho makes a packet, a lock, a callback and a system call of each message; at thousands a second
that is what a process does (docs/adr/0008). Source: MQTT 3.1.1, sections 2.2.3, 3.3 and 3.4.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

_PUBLISH = 0x30
_PUBACK = struct.Struct("!BBH")
_SHORT = struct.Struct("!H")


def pubacks(mids: Iterable[int]) -> bytes:
    """A PUBACK for each packet id, in that order.

    >>> pubacks([1, 258]).hex(" ")
    '40 02 00 01 40 02 01 02'
    """
    return b"".join([_PUBACK.pack(0x40, 2, mid) for mid in mids])


def publish(topic: bytes, payload: bytes, *, retain: bool = False, mid: int | None = None) -> bytes:
    """A PUBLISH: at QoS 0, or at QoS 1 when it has a packet id.

    >>> publish(b"t", b"x").hex(" ")
    '30 04 00 01 74 78'
    """
    flags = (0 if mid is None else 2) | retain
    packet_id = b"" if mid is None else _SHORT.pack(mid)
    body = b"".join((_SHORT.pack(len(topic)), topic, packet_id, payload))
    return b"".join((bytes((_PUBLISH | flags,)), length(len(body)), body))


def length(size: int) -> bytes:
    """MQTT's variable-length size.

    >>> [length(n).hex() for n in (0, 127, 128, 16_384)]
    ['00', '7f', '8001', '808001']
    """
    encoded = bytearray()
    while True:
        size, digit = divmod(size, 128)
        encoded.append(digit | (0x80 if size else 0))
        if not size:
            return bytes(encoded)
