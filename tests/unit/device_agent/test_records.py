from __future__ import annotations

from device_agent.records import BATCH_OVERHEAD_BYTES, Record, RecordKind, fits, outgoing
from fleet_core.contract.messages import MAX_EVENTS_PER_BATCH, EventBatch
from fleet_core.contract.topics import DEVICE_EVENTS, DEVICE_HEARTBEAT
from tests.unit.device_agent.story import BOOT, DEVICE, decoded, event_record, names


def test_a_batch_holds_at_most_five_hundred_events() -> None:
    records = [event_record(seq) for seq in range(1, MAX_EVENTS_PER_BATCH + 2)]
    messages = outgoing(DEVICE, records, live=False)
    assert [len(message.seqs) for message in messages] == [MAX_EVENTS_PER_BATCH, 1]


def test_batches_stay_under_the_payload_limit_and_lose_nothing() -> None:
    records = [event_record(seq, size_bytes=3000) for seq in range(1, 101)]
    messages = outgoing(DEVICE, records, live=False)
    assert len(messages) == 4
    assert names(messages) == [(BOOT, seq) for seq in range(1, 101)]
    for message in messages:
        batch = decoded(message)
        assert isinstance(batch, EventBatch)
        assert tuple(event.seq for event in batch.events) == message.seqs


def test_events_of_two_boots_never_share_a_batch() -> None:
    older, newer = event_record(1, "b" * 32), event_record(1)
    messages = outgoing(DEVICE, [older, newer, event_record(2)], live=False)
    assert [(m.boot_id, m.seqs) for m in messages] == [("b" * 32, (1,)), (BOOT, (1, 2))]


def test_the_limit_is_exact() -> None:
    limit_bytes = DEVICE_EVENTS.payload_limit_bytes - BATCH_OVERHEAD_BYTES
    assert fits(Record(BOOT, 1, RecordKind.EVENT, b"x" * limit_bytes))
    assert not fits(Record(BOOT, 1, RecordKind.EVENT, b"x" * (limit_bytes + 1)))
    assert fits(Record(BOOT, 1, RecordKind.HEARTBEAT, b"x" * DEVICE_HEARTBEAT.payload_limit_bytes))
    too_long = b"x" * (DEVICE_HEARTBEAT.payload_limit_bytes + 1)
    assert not fits(Record(BOOT, 1, RecordKind.HEARTBEAT, too_long))


def test_the_largest_event_that_fits_is_a_payload_the_contract_takes() -> None:
    overhead_bytes = len(event_record(1).payload)
    limit_bytes = DEVICE_EVENTS.payload_limit_bytes - BATCH_OVERHEAD_BYTES
    record = event_record(1, size_bytes=limit_bytes - overhead_bytes)
    (message,) = outgoing(DEVICE, [record], live=False)
    assert len(message.publication.payload) == DEVICE_EVENTS.payload_limit_bytes
    assert decoded(message)
