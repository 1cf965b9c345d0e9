from __future__ import annotations

import msgspec
import pytest

from device_agent.machine import (
    DROP_REPORT_INTERVAL_S,
    SILENCE_REPORT_INTERVAL_S,
    SILENCE_S,
    SPOOL_RETRY_S,
    UNKEPT_LIMIT,
)
from device_agent.replay import WINDOW_LIMIT
from device_agent.spool import Entry, MemoryStorage, SpoolLimits, StorageCorrupt, StorageFailed
from fleet_core.contract.codec import decode
from fleet_core.contract.messages import (
    MAX_CONNECTORS,
    Connector,
    ConnectorStatus,
    DeviceInfo,
    DeviceStatus,
    Farewell,
    Presence,
    Receipt,
    Severity,
)
from fleet_core.contract.topics import DEVICE_HEARTBEAT, DEVICE_STATUS
from tests.unit.device_agent.story import (
    BOOT,
    METRICS,
    FullDisk,
    Story,
    decoded,
    event_record,
    events,
    heartbeats,
    live,
    moment,
    names,
    receipt,
    statuses,
)


def test_a_session_begins_with_its_birth_and_a_heartbeat_with_info() -> None:
    story = Story()
    birth, heartbeat = story.connect(0)
    (status,) = statuses([birth])
    assert (status.state, status.reason) == (Presence.ONLINE, Farewell.BIRTH)
    assert (status.boot_id, status.session) == (BOOT, 1)
    assert birth.publication.retain
    (beat,) = heartbeats([heartbeat])
    assert (beat.seq, beat.interval_s, beat.receipt) == (1, 30, True)
    assert beat.info == DeviceInfo(hostname="mill")


def test_every_attempt_to_connect_has_a_will_of_its_own_session() -> None:
    story = Story()
    for session in (1, 2, 3):
        publication = story.machine.on_connecting(moment(session))
        status = decode(DEVICE_STATUS, publication.payload)
        assert isinstance(status, DeviceStatus)
        assert (status.state, status.reason) == (Presence.OFFLINE, Farewell.WILL)
        assert status.session == session
        assert publication.retain
    birth, *_ = story.machine.on_connected(moment(4))
    assert statuses([birth])[0].session == 3


def test_goodbye_is_the_session_s_last_word() -> None:
    story = Story()
    story.connect(0)
    (status,) = statuses([story.machine.goodbye(moment(5))])
    assert (status.state, status.reason) == (Presence.OFFLINE, Farewell.GOODBYE)
    assert status.session == 1


def test_heartbeats_come_at_the_interval_and_info_only_when_it_changed() -> None:
    story = Story()
    story.connect(0)
    assert story.machine.next_due_s(moment(0)) == 30
    assert story.tick(29.9) == []
    (second,) = heartbeats(live(story.tick(30)))
    assert second.info is None
    story.info = DeviceInfo(hostname="mill", addresses=["10.0.0.7"])
    (third,) = heartbeats(live(story.tick(60)))
    assert third.info == story.info


def test_a_pause_of_the_process_does_not_make_heartbeats_pile_up() -> None:
    story = Story(spool_heartbeats=False)
    story.connect(0)
    assert len(heartbeats(story.tick(305))) == 1
    assert story.tick(305) == []
    assert story.machine.next_due_s(moment(305)) == 25


def test_a_wall_clock_that_jumps_changes_no_schedule() -> None:
    story = Story()
    story.connect(0)
    jumped = msgspec.structs.replace(moment(30), at=moment(-3600).at)
    (beat,) = heartbeats(live(story.machine.on_tick(jumped)))
    assert beat.at == jumped.at
    assert story.machine.next_due_s(jumped) == 30


def test_without_a_connection_heartbeats_are_kept_and_sent_later() -> None:
    story = Story()
    assert story.tick(30) == []
    assert story.tick(60) == []
    assert story.spool.rows == 2
    story.connect(70)
    replayed = heartbeats(story.tick(70))
    assert [beat.seq for beat in replayed] == [1, 2]
    assert replayed[0].at == moment(30).at


def test_without_spooling_heartbeats_nothing_is_kept_and_no_receipt_is_asked_for() -> None:
    story = Story(spool_heartbeats=False)
    assert story.tick(30) == []
    (beat,) = heartbeats(story.connect(40))
    assert not beat.receipt
    assert story.spool.rows == 0


def test_what_is_receipted_is_gone_and_what_is_not_comes_again_after_thirty_seconds() -> None:
    story = Story(interval_s=300)
    story.connect(0)
    for _ in range(3):
        story.event()
    assert names(story.tick(0)) == [(BOOT, 2), (BOOT, 3), (BOOT, 4)]
    story.machine.on_receipt(receipt(1, 2, 4))
    assert story.tick(29.9) == []
    assert names(story.tick(30)) == [(BOOT, 3)]
    assert story.machine.next_due_s(moment(30)) == 60
    story.machine.on_receipt(receipt(3))
    assert story.spool.rows == 0
    assert story.tick(200) == []


def test_a_new_connection_sends_everything_again_at_once() -> None:
    story = Story()
    story.connect(0)
    story.event()
    story.tick(0)
    story.machine.on_disconnected()
    assert story.tick(1) == []
    story.connect(2)
    assert story.machine.next_due_s(moment(2)) == 0
    assert names(story.tick(2)) == [(BOOT, 1), (BOOT, 2)]


def test_records_of_an_earlier_boot_keep_their_name() -> None:
    storage = MemoryStorage()
    earlier = Story(storage=storage, boot_id="b" * 32)
    earlier.event()
    story = Story(storage=storage)
    story.connect(0)
    assert names(story.tick(0)) == [("b" * 32, 1)]
    story.machine.on_receipt(receipt(1))
    assert story.spool.rows == 1
    story.machine.on_receipt(receipt(1, boot_id="b" * 32))
    assert story.spool.rows == 0


def test_the_window_holds_a_hundred_and_a_live_heartbeat_does_not_wait_for_it() -> None:
    story = Story()
    for _ in range(250):
        story.event()
    _, beat = story.connect(0)
    assert beat.live
    first = names(story.tick(0))
    assert len(first) == WINDOW_LIMIT - 1
    assert story.tick(1) == []
    assert len(heartbeats(live(story.tick(30)))) == 1


def test_records_that_are_never_receipted_do_not_block_the_others() -> None:
    story = Story(interval_s=300)
    for _ in range(2 * WINDOW_LIMIT):
        story.event()
    story.connect(0)
    poison = {seq for _, seq in names(story.tick(0))}
    reached: set[int] = set()
    for second in (30, 60, 90):
        seqs = {seq for _, seq in names(story.tick(second))} - poison
        reached |= seqs
        story.machine.on_receipt(receipt(*seqs)) if seqs else None
    assert reached | poison >= set(range(1, 2 * WINDOW_LIMIT + 1))


def test_what_was_not_receipted_in_company_is_sent_again_alone() -> None:
    story = Story(interval_s=300)
    story.connect(0)
    for _ in range(3):
        story.event()
    assert [m.seqs for m in story.tick(0)] == [(2, 3, 4)]
    assert [m.seqs for m in story.tick(30)] == [(1,), (2,), (3,), (4,)]


def test_an_event_off_the_contract_is_refused_counted_and_uses_up_no_number() -> None:
    story = Story()
    add = story.machine.add_event
    assert not add("Not A Kind", moment(0))
    assert not add("test.happened", moment(0), message="x" * 5000)
    assert not add("test.happened", moment(0), data={"nul": "\0"})
    assert not add("test.happened", moment(0), data={"object": object()})
    assert not story.event(size_bytes=200_000)
    assert story.machine.refused == 5
    assert story.spool.rows == 0
    assert story.event()
    assert story.machine.last_seq == 1


def test_a_changed_connector_becomes_an_event() -> None:
    story = Story()
    running = Connector(name="modbus", status=ConnectorStatus.RUNNING)
    story.connectors = [running]
    story.connect(0)
    failed = msgspec.structs.replace(running, status=ConnectorStatus.FAILED)
    story.machine.on_connectors([failed], moment(1))
    story.machine.on_connectors([failed], moment(2))
    story.machine.on_connectors([], moment(3))
    changes = events(story.tick(3))
    assert [event.kind for event in changes] == ["connector.changed"] * 2
    assert [event.severity for event in changes] == [Severity.ERROR, Severity.WARNING]
    assert changes[0].data == {"connector": "modbus", "before": "running", "after": "failed"}
    assert changes[1].data == {"connector": "modbus", "before": "failed", "after": None}


def test_a_heartbeat_that_is_too_large_is_cut_down_and_says_so_once() -> None:
    story = Story()
    story.connectors = [
        Connector(name=f"{n:04}" + "n" * 124, type="t" * 256) for n in range(MAX_CONNECTORS + 9)
    ]
    _, first = story.connect(0)
    assert len(first.publication.payload) <= DEVICE_HEARTBEAT.payload_limit_bytes
    assert 0 < len(heartbeats([first])[0].connectors) < MAX_CONNECTORS
    assert [event.kind for event in events(story.tick(1))] == ["heartbeat.trimmed"]
    assert not [e for e in events(story.tick(30)) if e.seq > 3]


def test_even_a_heartbeat_full_of_texts_is_sent() -> None:
    story = Story()
    custom = {"ü" * 60 + f"{n:03}": 1.5 for n in range(64)}
    story.metrics = msgspec.structs.replace(METRICS, custom=custom)
    story.info = DeviceInfo(hostname="ü" * 256, addresses=["ü" * 256] * 64)
    _, first = story.connect(0)
    (beat,) = heartbeats([first])
    assert beat.metrics.cpu_percent == METRICS.cpu_percent
    assert beat.info is None


def test_dropped_records_are_reported_once_there_is_room() -> None:
    story = Story(limits=SpoolLimits(rows=10), interval_s=300)
    for _ in range(13):
        story.event()
    story.connect(0)
    assert story.spool.dropped == 4
    story.tick(0)
    assert story.spool.dropped == 4
    story.machine.on_receipt(Receipt(boot_id=BOOT, ranges=[(1, 14)]))
    reports = events(story.tick(1))
    assert [(event.kind, event.data) for event in reports] == [("spool.dropped", {"count": 4})]
    assert story.spool.dropped == 0


def test_drops_are_reported_at_most_once_a_minute() -> None:
    storage = FullDisk()
    story = Story(storage=storage, interval_s=300)
    story.connect(0)
    story.event()
    storage.full = False
    assert events(story.tick(1))[-1].data == {"count": 2}
    storage.full = True
    story.event()
    storage.full = False
    story.machine.on_receipt(Receipt(boot_id=BOOT, ranges=[(1, 100)]))
    assert "spool.dropped" not in [event.kind for event in events(story.tick(2))]
    later = events(story.tick(1 + DROP_REPORT_INTERVAL_S))
    assert [event.data for event in later] == [{"count": 1}]


def test_a_full_disk_stops_neither_heartbeats_nor_events() -> None:
    story = Story(storage=FullDisk())
    assert len(heartbeats(story.connect(0))) == 1
    for _ in range(UNKEPT_LIMIT + 5):
        assert story.event()
    assert len(events(story.tick(1))) == UNKEPT_LIMIT
    assert story.tick(2) == []
    assert len(heartbeats(live(story.tick(30)))) == 1
    assert story.spool.dropped == 2 + UNKEPT_LIMIT + 5


class Unreadable(MemoryStorage):
    """A storage that fails to read, or is corrupt, on demand."""

    error: Exception | None = None

    def read(self, after: int, limit: int) -> list[Entry]:
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        return super().read(after, limit)


def test_a_spool_that_fails_to_read_is_left_alone_for_a_while() -> None:
    storage = Unreadable()
    story = Story(storage=storage, interval_s=300)
    story.event()
    story.connect(0)
    storage.error = StorageFailed("disk I/O error")
    assert story.tick(0) == []
    assert story.machine.next_due_s(moment(0)) == SPOOL_RETRY_S
    assert names(story.tick(SPOOL_RETRY_S)) == [(BOOT, 1), (BOOT, 2)]


def test_a_corrupt_spool_is_begun_anew_and_the_loss_is_told() -> None:
    storage = Unreadable()
    story = Story(storage=storage, interval_s=300)
    story.event()
    story.connect(0)
    storage.error = StorageCorrupt("malformed")
    assert story.tick(0) == []
    told = {event.kind: event for event in events(story.tick(1))}
    assert told["spool.reset"].severity is Severity.ERROR
    assert told["spool.dropped"].data == {"count": 2}


@pytest.mark.parametrize("boot_id", [BOOT, "c" * 32])
def test_a_receipt_for_what_is_not_here_changes_nothing(boot_id: str) -> None:
    story = Story()
    story.connect(0)
    story.machine.on_receipt(Receipt(boot_id=boot_id, ranges=[(50, 2**63 - 1)]))
    assert story.spool.rows == 1


def test_the_spool_s_own_records_decode() -> None:
    story = Story()
    for seq in (1, 2):
        story.spool.append(event_record(seq, "d" * 32))
    story.connect(0)
    for message in story.tick(0):
        assert decoded(message)


def test_receipts_let_the_next_records_out_at_once() -> None:
    story = Story(interval_s=300)
    for _ in range(3 * WINDOW_LIMIT):
        story.event()
    story.connect(0)
    for _ in range(3):
        seqs = [seq for _, seq in names(story.tick(1))]
        assert len(seqs) >= WINDOW_LIMIT - 1
        story.machine.on_receipt(receipt(*seqs))
        assert story.machine.next_due_s(moment(1)) == 0


def test_the_first_heartbeat_waits_until_there_is_something_to_measure() -> None:
    story = Story(measured_after_s=1)
    story.event(0)
    (birth,) = story.connect(0.1)
    assert statuses([birth])[0].reason is Farewell.BIRTH
    assert story.tick(0.2) == []
    assert story.machine.next_due_s(moment(0.2)) == pytest.approx(0.8)
    beat, replayed = story.tick(1)
    assert heartbeats([beat])[0].info is not None
    assert names([replayed]) == [(BOOT, 1)]
    assert live(story.tick(30.9)) == []
    assert len(heartbeats(live(story.tick(31)))) == 1


def test_once_measured_every_later_session_has_its_heartbeat_at_once() -> None:
    story = Story(measured_after_s=1)
    story.connect(0.1)
    story.machine.on_disconnected()
    assert len(heartbeats(story.connect(1))) == 1
    story.machine.on_disconnected()
    assert len(heartbeats(story.connect(1.5))) == 1


def test_a_platform_that_never_answers_is_noticed_once_an_hour() -> None:
    story = Story()
    story.connect(0)
    for at_s in (0.0, 10.0, SILENCE_S - 1):
        story.tick(at_s)
        assert story.machine.take_silence_s(moment(at_s)) is None
    assert story.machine.next_due_s(moment(SILENCE_S - 1)) <= 1, "somebody looks in time"
    story.tick(SILENCE_S)
    assert story.machine.take_silence_s(moment(SILENCE_S)) == SILENCE_S
    for at_s in (SILENCE_S + 1, SILENCE_S + SILENCE_REPORT_INTERVAL_S - 1):
        story.tick(at_s)
        assert story.machine.take_silence_s(moment(at_s)) is None
    again_s = SILENCE_S + SILENCE_REPORT_INTERVAL_S
    assert story.machine.take_silence_s(moment(again_s)) == again_s


def test_any_receipt_ends_the_silence() -> None:
    story = Story()
    story.connect(0)
    story.machine.on_receipt(receipt(1))
    assert story.machine.take_silence_s(moment(29)) is None
    story.tick(30)
    assert story.machine.take_silence_s(moment(59)) is None
    assert story.machine.take_silence_s(moment(60)) == 30


def test_without_a_connection_nobody_is_blamed_for_the_silence() -> None:
    story = Story()
    story.connect(0)
    story.machine.on_disconnected()
    assert story.machine.take_silence_s(moment(100)) is None
    story.connect(100)
    assert story.machine.take_silence_s(moment(129)) is None
    assert story.machine.take_silence_s(moment(130)) == 30


def test_where_no_receipt_is_asked_for_none_is_missed() -> None:
    story = Story(spool_heartbeats=False)
    story.connect(0)
    for at_s in range(0, 300, 30):
        story.tick(at_s)
        assert story.machine.take_silence_s(moment(at_s)) is None
