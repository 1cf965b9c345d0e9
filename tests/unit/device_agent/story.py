"""Values and small machines that the agent's tests tell their stories with."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from device_agent.host import Sample
from device_agent.machine import Machine, MachineSettings
from device_agent.moment import Moment
from device_agent.records import Outgoing, Record, RecordKind
from device_agent.spool import MemoryStorage, Spool, SpoolLimits, Storage, StorageFailed
from fleet_core.contract.codec import decode, encode
from fleet_core.contract.messages import (
    Connector,
    DeviceInfo,
    DeviceStatus,
    Event,
    EventBatch,
    Heartbeat,
    Metrics,
    Receipt,
)
from fleet_core.contract.topics import parse

START = datetime(2026, 1, 5, 12, tzinfo=UTC)
BOOT = "a" * 32
DEVICE = "gw-0001"
METRICS = Metrics(cpu_percent=10, ram_percent=20, disk_percent=30)


def moment(elapsed_s: float) -> Moment:
    """The moment `elapsed_s` after the start of the story."""
    return Moment(START + timedelta(seconds=elapsed_s), 1000.0 + elapsed_s)


def event_record(seq: int, boot_id: str = BOOT, size_bytes: int = 0) -> Record:
    """An event whose payload has at least `size_bytes` bytes."""
    event = Event(seq=seq, at=START, kind="test.happened", data={"fill": "x" * size_bytes})
    return Record(boot_id, seq, RecordKind.EVENT, encode(event))


def receipt(*seqs: int, boot_id: str = BOOT) -> Receipt:
    """A receipt for exactly these records."""
    return Receipt(boot_id=boot_id, ranges=[(seq, seq) for seq in seqs])


class FullDisk(MemoryStorage):
    """A storage that takes nothing while `full`."""

    full = True

    def insert(self, position: int, record: Record) -> None:
        if self.full:
            raise StorageFailed("database or disk is full")
        super().insert(position, record)


class Story:
    """A machine with everything around it in the test's hands."""

    def __init__(
        self,
        *,
        storage: Storage | None = None,
        limits: SpoolLimits | None = None,
        interval_s: int = 30,
        spool_heartbeats: bool = True,
        boot_id: str = BOOT,
        at_s: float = 0,
        measured_after_s: float = 0,
    ) -> None:
        self.info = DeviceInfo(hostname="mill")
        self.metrics = METRICS
        self.connectors: Sequence[Connector] = ()
        self.spool = Spool(storage or MemoryStorage(), limits)
        settings = MachineSettings(
            device_id=DEVICE,
            interval_s=interval_s,
            spool_heartbeats=spool_heartbeats,
            measured_after_s=measured_after_s,
        )
        self.machine = Machine(settings, self.spool, self._sample, moment(at_s), boot_id)

    def connect(self, at_s: float) -> list[Outgoing]:
        """A session that comes up at once."""
        self.machine.on_connecting(moment(at_s))
        return self.machine.on_connected(moment(at_s))

    def tick(self, at_s: float) -> list[Outgoing]:
        """A tick at `at_s`."""
        return self.machine.on_tick(moment(at_s))

    def event(self, at_s: float = 0, *, size_bytes: int = 0) -> bool:
        """Something happens."""
        return self.machine.add_event(
            "test.happened", moment(at_s), data={"fill": "x" * size_bytes}
        )

    def _sample(self, _now: Moment) -> Sample:
        return Sample(self.metrics, self.connectors, self.info)


def decoded(outgoing: Outgoing) -> msgspec.Struct:
    """What the platform would read, checked against the contract as it would."""
    topic = parse(outgoing.publication.topic)
    assert topic.identity == DEVICE
    assert outgoing.publication.qos == topic.template.qos
    assert outgoing.publication.retain == topic.template.retain
    return decode(topic.template, outgoing.publication.payload)


def heartbeats(messages: Sequence[Outgoing]) -> list[Heartbeat]:
    """The heartbeats among `messages`."""
    return [m for m in map(decoded, messages) if isinstance(m, Heartbeat)]


def events(messages: Sequence[Outgoing]) -> list[Event]:
    """The events among `messages`, out of their batches."""
    batches = [m for m in map(decoded, messages) if isinstance(m, EventBatch)]
    return [event for batch in batches for event in batch.events]


def statuses(messages: Sequence[Outgoing]) -> list[DeviceStatus]:
    """The births and goodbyes among `messages`."""
    return [m for m in map(decoded, messages) if isinstance(m, DeviceStatus)]


def live(messages: Sequence[Outgoing]) -> list[Outgoing]:
    """What among `messages` does not wait."""
    return [message for message in messages if message.live]


def names(messages: Sequence[Outgoing]) -> list[tuple[str, int]]:
    """Which records `messages` carry."""
    return [(m.boot_id, seq) for m in messages for seq in m.seqs]
