"""The checker can fail: each promise, broken on purpose, is reported; a sound record is not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from tests.fixtures.checker import (
    FILES_MARGIN,
    GROWTH_LIMIT_BYTES,
    Beat,
    Journals,
    Key,
    Snapshot,
    State,
    growth,
    queued,
    read_database,
    read_journals,
    violations,
)
from tests.fixtures.platform import Vitals, register

BOOT = "0" * 31 + "1"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEYS = [Key("a", BOOT, seq) for seq in (1, 2, 3)]
SOUND = Journals(sent=frozenset(KEYS), acked=frozenset(KEYS), receipted=frozenset(KEYS))


def beat(key: Key, cpu_percent: float = 1.0) -> Beat:
    at = NOON + timedelta(seconds=key.seq)
    return Beat(key.device, key.boot, key.seq, at, 100, cpu_percent)


def state(newest: Beat) -> State:
    return State(newest.device, newest.boot, newest.seq, newest.at, 100, 1.0, "online")


BEATS = [beat(key) for key in KEYS]
STORED = Snapshot(beats=BEATS, states=[state(BEATS[-1])])


def found(journals: Journals, database: Snapshot) -> list[str]:
    """The numbers of the promises that are broken."""
    return [line.split(":")[0] for line in violations(journals, database)]


def test_a_sound_record_breaks_no_promise() -> None:
    assert found(SOUND, STORED) == []


def test_an_event_counts_as_stored() -> None:
    event = Key("a", BOOT, 4)
    journals = Journals(sent=SOUND.sent | {event}, receipted=SOUND.receipted | {event})
    assert found(journals, Snapshot(BEATS, [event], STORED.states)) == []


@pytest.mark.parametrize(
    ("journals", "database", "promise"),
    [
        (SOUND, Snapshot(beats=BEATS[1:], states=STORED.states), "1"),
        (Journals(sent=SOUND.sent - {KEYS[0]}), STORED, "2"),
        (SOUND, Snapshot(beats=[BEATS[0], *BEATS], states=STORED.states), "3"),
        (SOUND, Snapshot(beats=BEATS, events=[KEYS[0]], states=STORED.states), "3"),
        (SOUND, Snapshot(beats=BEATS, states=[state(BEATS[1])]), "4"),
        (SOUND, Snapshot(beats=[*BEATS[:2], beat(KEYS[2], 50.0)], states=STORED.states), "4"),
        (SOUND, Snapshot(beats=BEATS), "4"),
    ],
    ids=["lost", "invented", "twice", "twice as another", "old state", "other numbers", "no state"],
)
def test_a_broken_promise_is_reported(journals: Journals, database: Snapshot, promise: str) -> None:
    assert found(journals, database) == [promise]


def test_the_newest_record_is_that_of_the_later_boot() -> None:
    later = Beat("a", "0" * 31 + "2", 1, NOON + timedelta(hours=1), 100, 1.0)
    journals = Journals(sent=SOUND.sent | {Key("a", later.boot, 1)})
    beats = [*BEATS, later]
    assert found(journals, Snapshot(beats=beats, states=[state(later)])) == []
    assert found(journals, Snapshot(beats=beats, states=[state(BEATS[-1])])) == ["4"]


def test_the_boot_that_began_last_is_the_newest_whatever_its_clock_says() -> None:
    later = Beat("a", "0" * 31 + "2", 1, NOON - timedelta(hours=1), 100, 1.0)
    journals = Journals(sent=SOUND.sent | {Key("a", later.boot, 1)}, last_boots={"a": later.boot})
    beats = [*BEATS, later]
    assert found(journals, Snapshot(beats=beats, states=[state(later)])) == []
    assert found(journals, Snapshot(beats=beats, states=[state(BEATS[-1])])) == ["4"]


def test_devices_of_no_journal_are_left_alone() -> None:
    stranger = beat(Key("b", BOOT, 9))
    assert found(SOUND, Snapshot(beats=[*BEATS, stranger], states=STORED.states)) == []


def test_what_waits_in_a_queue_is_reported() -> None:
    assert queued(STORED) == []
    assert len(queued(Snapshot(live_changes=1, outbox=2))) == 2


def test_growth_beyond_the_margins_is_reported() -> None:
    before = Vitals(10**8, 20, 5)
    at_limit = Vitals(10**8 + GROWTH_LIMIT_BYTES, 20 + FILES_MARGIN, 5 + FILES_MARGIN)
    beyond = Vitals(*(value + 1 for value in (at_limit.resident_bytes, at_limit.files, 9)))
    assert growth("x", before, at_limit) == []
    assert len(growth("x", before, beyond)) == 3


def test_a_journal_that_was_cut_short_is_read_up_to_there(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    line = '{"device":"a","boot":"%s","seq":%d,"what":"%s","t":1.5}'
    lines = [line % (BOOT, 1, "sent"), line % (BOOT, 1, "acked"), line % (BOOT, 2, "sent")]
    path.write_text("\n".join([*lines, line[:20]]))
    journals = read_journals([path, tmp_path / "missing"])
    assert journals == Journals(
        sent=frozenset(KEYS[:2]), acked=frozenset(KEYS[:1]), last_boots={"a": BOOT}
    )


async def test_the_database_is_read_as_it_is(database_url: str) -> None:
    await register(database_url, ["a1"])
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "INSERT INTO heartbeats (device_id, at, boot_id, seq, received_at, score, cpu_percent,"
            " ram_percent, disk_percent, connectors_running, connectors_total)"
            " VALUES ('a1', %s, %s, 7, now(), 100, 1, 1, 1, 0, 0)",
            (NOON, BOOT),
        )
        connection.execute("INSERT INTO live_changes (device_id) VALUES ('a1')")
    snapshot = read_database(database_url)
    assert snapshot.stored == [Key("a1", BOOT, 7)]
    assert [(s.device, s.boot, s.seq, s.status) for s in snapshot.states] == [
        ("a1", None, 0, "unseen")
    ]
    assert (snapshot.live_changes, snapshot.outbox) == (1, 0)
