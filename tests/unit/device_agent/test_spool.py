from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.records import Record, RecordKind
from device_agent.spool import (
    REPORT_ROOM_BYTES,
    MemoryStorage,
    Spool,
    SpoolLimits,
    Storage,
    StorageCorrupt,
    StorageFailed,
)
from device_agent.spool_sqlite import SqliteStorage
from tests.unit.device_agent.story import BOOT, FullDisk, event_record

REPOSITORY = Path(__file__).resolve().parents[3]
MakeStorage = Callable[[], Storage]


@pytest.fixture(params=["memory", "sqlite"])
def make_storage(request: pytest.FixtureRequest, tmp_path: Path) -> MakeStorage:
    """The same storage each time it is called, opened anew where that means something."""
    if request.param == "sqlite":
        return lambda: SqliteStorage(tmp_path / "spool.sqlite3")
    memory = MemoryStorage()
    return lambda: memory


def record(seq: int, size_bytes: int = 10, boot_id: str = BOOT) -> Record:
    return Record(boot_id, seq, RecordKind.EVENT, b"x" * size_bytes)


def seqs(spool: Spool) -> list[int]:
    return [entry.record.seq for entry in spool.read(0, 1000)]


def test_records_come_back_in_order_as_they_were_put_in(make_storage: MakeStorage) -> None:
    spool = Spool(make_storage())
    records = [record(1), event_record(2), Record("b" * 32, 7, RecordKind.HEARTBEAT, b"\0\xff")]
    positions = [spool.append(one) for one in records]
    assert positions == [1, 2, 3]
    assert [entry.record for entry in spool.read(0, 10)] == records
    assert [entry.position for entry in spool.read(1, 1)] == [2]
    assert [entry.record.seq for entry in spool.fetch([3, 99, 1])] == [1, 7]


def test_another_process_finds_what_was_kept(make_storage: MakeStorage) -> None:
    first = Spool(make_storage(), SpoolLimits(rows=3))
    for seq in range(1, 6):
        first.append(record(seq))
    first.close()
    second = Spool(make_storage(), SpoolLimits(rows=3))
    assert (second.rows, second.size_bytes, second.dropped) == (3, 30, 2)
    assert second.append(record(6)) == 6
    assert seqs(second) == [4, 5, 6]
    second.close()


def test_only_what_is_named_is_removed(make_storage: MakeStorage) -> None:
    spool = Spool(make_storage())
    for seq in range(1, 11):
        spool.append(record(seq))
        spool.append(record(seq, boot_id="b" * 32))
    assert spool.remove(BOOT, [(2, 3), (9, 2**63 - 1)]) == [3, 5, 17, 19]
    assert [e.record.seq for e in spool.read(0, 99) if e.record.boot_id == BOOT] == [
        *(1, 4, 5, 6, 7, 8),
    ]
    assert (spool.rows, spool.size_bytes) == (16, 160)
    assert spool.remove(BOOT, [(2, 3)]) == []


def test_the_row_limit_drops_the_oldest_and_counts(make_storage: MakeStorage) -> None:
    spool = Spool(make_storage(), SpoolLimits(rows=3))
    for seq in range(1, 4):
        spool.append(record(seq))
    assert (spool.rows, spool.dropped, spool.has_room) == (3, 0, False)
    spool.append(record(4))
    assert (seqs(spool), spool.dropped) == ([2, 3, 4], 1)


def test_the_byte_limit_drops_as_many_as_it_takes(make_storage: MakeStorage) -> None:
    spool = Spool(make_storage(), SpoolLimits(size_bytes=100))
    for seq in range(1, 5):
        spool.append(record(seq, 25))
    assert (spool.rows, spool.dropped) == (4, 0)
    spool.append(record(5, 26))
    assert (seqs(spool), spool.size_bytes, spool.dropped) == ([3, 4, 5], 76, 2)
    assert spool.append(record(6, 101)) is None
    assert (seqs(spool), spool.dropped) == ([3, 4, 5], 3)
    assert spool.append(record(7, 100)) is not None
    assert seqs(spool) == [7]


def test_a_report_takes_the_count_and_gives_it_back_when_it_is_dropped(
    make_storage: MakeStorage,
) -> None:
    spool = Spool(make_storage(), SpoolLimits(rows=2))
    for seq in range(1, 5):
        spool.append(record(seq))
    report = Record(BOOT, 5, RecordKind.EVENT, b"report", reports=spool.dropped)
    spool.remove(BOOT, [(4, 4)])
    spool.append(report)
    assert spool.dropped == 0
    spool.append(record(6))
    spool.append(record(7))
    assert seqs(spool) == [6, 7]
    assert spool.dropped == 4


def test_positions_are_never_used_twice_in_a_life(make_storage: MakeStorage) -> None:
    spool = Spool(make_storage())
    spool.append(record(1))
    spool.append(record(2))
    spool.remove(BOOT, [(2, 2)])
    assert spool.append(record(3)) == 3


def test_there_is_room_up_to_the_limit() -> None:
    spool = Spool(MemoryStorage(), SpoolLimits(rows=9, size_bytes=REPORT_ROOM_BYTES + 10))
    spool.append(record(1, 10))
    assert spool.has_room
    spool.append(record(2, 1))
    assert not spool.has_room


@given(
    steps=st.lists(st.one_of(st.integers(1, 40), st.tuples(st.integers(1, 30), st.integers(0, 5)))),
    rows_limit=st.integers(1, 8),
    bytes_limit=st.integers(10, 60),
)
def test_any_history_stays_within_the_limits_and_accounts_for_everything(
    steps: list[int | tuple[int, int]], rows_limit: int, bytes_limit: int
) -> None:
    """A number is a record of that size, a pair a receipt from a seq for some more."""
    storage = MemoryStorage()
    spool = Spool(storage, SpoolLimits(rows=rows_limit, size_bytes=bytes_limit))
    made = removed = 0
    for step in steps:
        if isinstance(step, int):
            made += 1
            spool.append(record(made, step))
        else:
            removed += len(spool.remove(BOOT, [(step[0], step[0] + step[1])]))
        assert spool.rows <= rows_limit
        assert spool.size_bytes <= bytes_limit
        assert storage.totals().rows == spool.rows
        assert storage.totals().size_bytes == spool.size_bytes
        assert made == spool.rows + removed + spool.dropped
        assert seqs(spool) == sorted(seqs(spool))


def test_a_failing_storage_costs_the_record_and_nothing_else() -> None:
    storage = FullDisk()
    spool = Spool(storage)
    assert spool.append(record(1)) is None
    assert (spool.dropped, spool.failing) == (1, True)
    storage.full = False
    assert spool.append(record(2)) is not None
    assert (spool.dropped, spool.failing, seqs(spool)) == (1, False, [2])
    assert storage.totals().dropped == 1


def test_a_report_that_can_not_be_kept_is_not_a_loss_of_its_own() -> None:
    storage = FullDisk()
    spool = Spool(storage)
    spool.append(record(1))
    assert spool.append(Record(BOOT, 2, RecordKind.EVENT, b"report", reports=1)) is None
    assert spool.dropped == 1


@pytest.mark.parametrize(
    "garbage", [b"not a database at all" * 100, b"SQLite format 3\0" + b"z" * 9000]
)
def test_a_corrupt_file_is_moved_aside_and_begun_anew(tmp_path: Path, garbage: bytes) -> None:
    path = tmp_path / "spool.sqlite3"
    path.write_bytes(garbage)
    spool = Spool(SqliteStorage(path))
    assert spool.take_reset()
    assert not spool.take_reset()
    assert (tmp_path / "spool.sqlite3.corrupt").read_bytes() == garbage
    assert spool.append(record(1)) == 1
    assert seqs(spool) == [1]
    spool.close()


def test_a_file_of_another_schema_is_moved_aside(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite3"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE records (surprise)")
    other.execute("PRAGMA user_version = 1")
    other.commit()
    other.close()
    spool = Spool(SqliteStorage(path))
    assert spool.take_reset()
    spool.close()


def test_a_file_damaged_while_in_use_is_noticed_at_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite3"
    spool = Spool(SqliteStorage(path))
    for seq in range(1, 200):
        spool.append(record(seq, 500))
    spool.close()
    content = bytearray(path.read_bytes())
    content[8192:40960] = os.urandom(40960 - 8192)
    path.write_bytes(content)
    again = Spool(SqliteStorage(path))
    assert again.take_reset()
    assert again.append(record(1)) is not None
    again.close()


def test_a_really_full_database_refuses_and_recovers(tmp_path: Path) -> None:
    storage = SqliteStorage(tmp_path / "spool.sqlite3")
    spool = Spool(storage)
    spool.append(record(1))
    (pages,) = storage._connection().execute("PRAGMA page_count").fetchone()
    storage._connection().execute(f"PRAGMA max_page_count = {pages}")
    assert spool.append(record(2, 90_000)) is None
    assert (seqs(spool), spool.dropped, spool.failing) == ([1], 1, False)
    storage._connection().execute("PRAGMA max_page_count = 100000")
    assert spool.append(record(3, 90_000)) is not None
    assert storage.totals().dropped == 1
    spool.close()


def test_a_directory_that_is_missing_is_taken_back_when_it_returns(tmp_path: Path) -> None:
    path = tmp_path / "away" / "spool.sqlite3"
    spool = Spool(SqliteStorage(path))
    assert spool.append(record(1)) is None
    path.parent.mkdir()
    assert spool.append(record(2)) is not None
    assert (seqs(spool), spool.dropped) == ([2], 1)
    spool.close()


def test_a_locked_database_is_failure_not_corruption(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite3"
    spool = Spool(SqliteStorage(path))
    spool.append(record(1))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    assert spool.append(record(2)) is None
    assert spool.failing
    other.execute("ROLLBACK")
    other.close()
    assert spool.append(record(3)) is not None
    assert not spool.take_reset()
    spool.close()


class AlwaysCorrupt(MemoryStorage):
    def insert(self, *_: object) -> None:
        raise StorageCorrupt("again")


def test_a_storage_that_stays_corrupt_is_a_failure() -> None:
    spool = Spool(AlwaysCorrupt())
    assert spool.append(record(1)) is None
    assert spool.failing
    assert spool.take_reset()


def test_errors_name_their_cause(tmp_path: Path) -> None:
    storage = SqliteStorage(tmp_path / "missing" / "spool.sqlite3")
    with pytest.raises(StorageFailed, match="unable to open"):
        storage.totals()


WRITER = """
import sys
from pathlib import Path
from device_agent.records import Record, RecordKind
from device_agent.spool import Spool
from device_agent.spool_sqlite import SqliteStorage
spool = Spool(SqliteStorage(Path(sys.argv[1])))
for seq in range(1, 1_000_000):
    assert spool.append(Record("a" * 32, seq, RecordKind.EVENT, b"x" * 300))
    sys.stdout.write(f"{seq}\\n")
    sys.stdout.flush()
"""


def test_what_was_answered_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite3"
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)],
        stdout=subprocess.PIPE,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    ) as process:
        assert process.stdout is not None
        answered = [int(process.stdout.readline()) for _ in range(50)]
        process.send_signal(signal.SIGKILL)
        answered += [int(line) for line in process.stdout.read().split()]
    spool = Spool(SqliteStorage(path))
    kept = seqs(spool)
    assert not spool.take_reset()
    assert kept[: len(answered)] == answered
    assert len(kept) - len(answered) in (0, 1)
    spool.close()
