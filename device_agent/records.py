"""Records: what a device keeps until the platform has receipted it, and how it is put on the wire.

- `(boot_id, seq)` names a record for ever; heartbeats and events share the counter of a boot.
- A record is kept as the JSON it will be sent as, and checked against its topic's limit before.
- A heartbeat is a message of its own; events of one boot travel together in an `EventBatch`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum

import msgspec

from fleet_core.contract.codec import encode
from fleet_core.contract.messages import MAX_EVENTS_PER_BATCH
from fleet_core.contract.publication import Publication
from fleet_core.contract.topics import DEVICE_EVENTS, DEVICE_HEARTBEAT, Template

BATCH_OVERHEAD_BYTES = len(encode({"boot_id": "0" * 32, "events": []}))


class RecordKind(StrEnum):
    """Which topic a record belongs to."""

    HEARTBEAT = "heartbeat"
    EVENT = "event"


class Record(msgspec.Struct, frozen=True):
    """One record. `payload` is a whole heartbeat, or one event of a batch, as JSON. `reports` is
    the number of lost records it tells of, which must not be lost with it."""

    boot_id: str
    seq: int
    kind: RecordKind
    payload: bytes
    reports: int = 0


class Outgoing(msgspec.Struct, frozen=True):
    """A publication and the records in it. `live` ones are never made to wait for the others."""

    publication: Publication
    boot_id: str = ""
    seqs: tuple[int, ...] = ()
    live: bool = True


def fits(record: Record) -> bool:
    """Whether `record`, alone in its message, is within the payload limit of its topic."""
    if record.kind is RecordKind.HEARTBEAT:
        return len(record.payload) <= DEVICE_HEARTBEAT.payload_limit_bytes
    return BATCH_OVERHEAD_BYTES + len(record.payload) <= DEVICE_EVENTS.payload_limit_bytes


def outgoing(device_id: str, records: Iterable[Record], *, live: bool) -> list[Outgoing]:
    """The messages that carry `records`: heartbeats in order, then events batched by boot."""
    messages: list[Outgoing] = []
    events: dict[str, list[Record]] = {}
    for record in records:
        if record.kind is RecordKind.HEARTBEAT:
            publication = publish(DEVICE_HEARTBEAT, device_id, record.payload)
            messages.append(Outgoing(publication, record.boot_id, (record.seq,), live))
        else:
            events.setdefault(record.boot_id, []).append(record)
    for boot_id, of_boot in events.items():
        for batch in _batches(of_boot):
            payload = encode(
                {"boot_id": boot_id, "events": [msgspec.Raw(r.payload) for r in batch]}
            )
            publication = publish(DEVICE_EVENTS, device_id, payload)
            seqs = tuple(record.seq for record in batch)
            messages.append(Outgoing(publication, boot_id, seqs, live))
    return messages


def publish(template: Template, device_id: str, payload: bytes) -> Publication:
    """A publication as the contract wants it."""
    return Publication(template.topic(device_id), payload, template.qos, template.retain)


def _batches(events: Sequence[Record]) -> Iterator[list[Record]]:
    batch: list[Record] = []
    size_bytes = BATCH_OVERHEAD_BYTES
    for event in events:
        added_bytes = len(event.payload) + 1
        too_long = size_bytes + added_bytes > DEVICE_EVENTS.payload_limit_bytes
        if batch and (too_long or len(batch) == MAX_EVENTS_PER_BATCH):
            yield batch
            batch, size_bytes = [], BATCH_OVERHEAD_BYTES
        batch.append(event)
        size_bytes += added_bytes
    if batch:
        yield batch
