"""Presence: precedence, policies, and every order in which a life can be told."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest

from fleet_core.contract.messages import DeviceHealth, Farewell, Severity
from fleet_core.rules.presence import (
    SKEW_EVENT,
    STATUS_EVENT,
    DeviceState,
    PlatformEvent,
    Policy,
    heard_heartbeat,
    heard_status,
    is_newest,
    status_of,
    transition,
)
from tests.fixtures.store import (
    BOOT_A,
    BOOT_B,
    BOOT_C,
    NOW,
    beat,
    device_state,
    metrics,
    seconds,
    status,
)

UNSEEN, ONLINE, WARNING, OFFLINE, UPDATING = (
    DeviceHealth.UNSEEN,
    DeviceHealth.ONLINE,
    DeviceHealth.WARNING,
    DeviceHealth.OFFLINE,
    DeviceHealth.UPDATING,
)
BIRTH, GOODBYE, WILL = Farewell.BIRTH, Farewell.GOODBYE, Farewell.WILL


class Story:
    """One device as it is heard, with the events that were noticed on the way."""

    def __init__(self, state: DeviceState | None = None, policy: Policy | None = None) -> None:
        self.state = state or device_state()
        self.policy = policy or Policy()
        self.events: list[PlatformEvent] = []

    def beat(self, s: float, seq: int, boot: str = BOOT_A, **more: Any) -> DeviceState:
        """A heartbeat, received at second `s`; by the device's clock at the same, unless told."""
        score = more.pop("score", 100)
        message = beat(seq, boot, **{"at": seconds(s), **more})
        change = heard_heartbeat(self.state, message, seconds(s), score, self.policy)
        self.state = change.state
        self.events += change.events
        return self.state

    def tell(self, s: float, reason: Farewell, session: int = 1, boot: str = BOOT_A) -> DeviceState:
        """A status message, received at second `s`."""
        change = heard_status(self.state, status(reason, session, boot), seconds(s), self.policy)
        self.state = change.state
        self.events += change.events
        return self.state

    def steps(self) -> list[str]:
        """The transitions so far."""
        return [e.message for e in self.events if e.kind == STATUS_EVENT]

    def skews(self) -> list[bool]:
        """What was said about the clock so far."""
        return [e.data["skewed"] for e in self.events if e.kind == SKEW_EVENT]


def alive(session: int = 1) -> Story:
    """A device of one birth and one heartbeat."""
    story = Story()
    story.tell(0, BIRTH, session)
    story.beat(1, 1)
    story.events.clear()
    return story


# --- status ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "updating", "offline", "late", "score", "expected"),
    [
        (False, True, True, True, 0, UNSEEN),
        (True, True, True, True, 0, UPDATING),
        (True, False, True, True, 0, OFFLINE),
        (True, False, False, True, 100, WARNING),
        (True, False, False, False, 79, WARNING),
        (True, False, False, False, 80, ONLINE),
        (True, False, False, False, None, ONLINE),
    ],
)
def test_the_first_status_that_holds(
    *,
    seen: bool,
    updating: bool,
    offline: bool,
    late: bool,
    score: int | None,
    expected: DeviceHealth,
) -> None:
    found = status_of(
        seen=seen, updating=updating, offline=offline, late=late, score=score, warning_below=80
    )
    assert found is expected


@pytest.mark.parametrize(
    ("policy", "late_s", "offline_s"),
    [
        (Policy(), 60, 300),
        (Policy(strict=True), 60, 60),
        (Policy(late_after_intervals=1.5, offline_after_intervals=3), 45, 90),
    ],
)
def test_deadlines_are_in_intervals_of_the_device(
    policy: Policy, late_s: float, offline_s: float
) -> None:
    assert policy.deadlines(NOW, 30) == (seconds(late_s), seconds(offline_s))
    story = Story(policy=policy)
    state = story.beat(7, 1)
    assert (state.late_at, state.offline_at) == (seconds(7 + late_s), seconds(7 + offline_s))


def test_the_newest_interval_sets_the_deadlines_and_a_replayed_one_does_not() -> None:
    story = Story()
    story.beat(0, 5, interval_s=10)
    assert story.beat(1, 4, interval_s=300).late_at == seconds(21)
    assert story.beat(2, 6, interval_s=300).late_at == seconds(602)


# --- heartbeats -----------------------------------------------------------------------------------


def test_a_first_heartbeat_is_a_transition_from_unseen() -> None:
    story = Story()
    state = story.beat(3, 1)
    assert (state.status, state.since, state.score) == (ONLINE, seconds(3), 100)
    assert (state.boot_id, state.seq, state.heartbeat_at) == (BOOT_A, 1, seconds(3))
    assert story.events == [
        PlatformEvent(
            device_id="gw-1",
            at=seconds(3),
            kind=STATUS_EVENT,
            severity=Severity.INFO,
            message="unseen -> online (heartbeat)",
            data={"from": "unseen", "to": "online", "reason": "heartbeat", "score": 100},
        )
    ]


def test_a_low_score_warns_and_a_good_one_ends_it_each_as_one_event() -> None:
    story = alive()
    for seq, score in enumerate((79, 10, 80, 100), start=2):
        story.beat(seq, seq, score=score)
    assert story.steps() == ["online -> warning (score)", "warning -> online (heartbeat)"]
    assert [e.severity for e in story.events] == [Severity.WARNING, Severity.INFO]
    assert [e.at for e in story.events] == [seconds(2), seconds(4)]
    assert story.state.since == seconds(4)


def test_a_heartbeat_without_news_is_no_event_and_keeps_since() -> None:
    story = alive()
    story.beat(31, 2)
    assert story.events == []
    assert story.state.since == seconds(1)
    assert story.state.last_heartbeat_at == seconds(31)


def test_a_late_or_lost_device_is_online_again_with_its_next_heartbeat() -> None:
    for before in (WARNING, OFFLINE):
        story = alive()
        story.state = msgspec.structs.replace(story.state, status=before)
        story.beat(400, 2)
        assert story.steps() == [f"{before.value} -> online (heartbeat)"]


def test_an_update_outranks_what_heartbeats_and_goodbyes_say() -> None:
    story = alive()
    story.state = msgspec.structs.replace(story.state, updating=True, status=UPDATING)
    assert story.beat(2, 2, score=0).status is UPDATING
    assert story.tell(3, GOODBYE).status is UPDATING
    assert story.events == []
    assert story.state.score == 0


def test_an_older_record_is_a_sign_of_life_but_not_the_newest_sample() -> None:
    story = alive()
    newest = story.beat(40, 9, score=100, metrics=metrics(cpu=5))
    state = story.beat(41, 4, at=seconds(20), score=20, metrics=metrics(cpu=99))
    assert (state.score, state.seq, state.heartbeat_at) == (100, 9, newest.heartbeat_at)
    assert state.sample is newest.sample
    assert (state.status, state.last_heartbeat_at) == (ONLINE, seconds(41))
    assert story.events == []


def test_the_same_heartbeat_again_moves_the_deadlines_and_nothing_else() -> None:
    story = alive()
    once = story.beat(31, 2)
    twice = story.beat(32, 2, at=seconds(31))
    fields = {"last_heartbeat_at", "late_at", "offline_at"}
    for name in set(DeviceState.__struct_fields__) - fields:
        assert getattr(once, name) == getattr(twice, name), name
    assert story.events == []


def test_records_of_an_older_boot_replayed_after_a_restart_are_not_newest() -> None:
    story = alive()
    story.tell(100, BIRTH, boot=BOOT_B)
    now = story.beat(101, 1, BOOT_B, score=90)
    state = story.beat(102, 50, BOOT_A, at=seconds(60), score=10)
    assert (state.boot_id, state.seq, state.score) == (BOOT_B, 1, 90)
    assert state.sample is now.sample
    assert state.status is ONLINE


def test_once_a_boot_is_known_only_a_birth_makes_another_one_known() -> None:
    story = alive()
    before = story.state
    state = story.beat(15, 1, BOOT_B, score=1)
    assert (state.boot_id, state.seq, state.score) == (BOOT_A, before.seq, before.score)
    assert state.status is ONLINE
    assert state.last_heartbeat_at == seconds(15)


def test_a_clock_that_fell_back_at_a_reboot_shows_the_live_boot() -> None:
    """Replayed records of the boot before look newer by the clock; they hid a hot device, and its
    goodbye was taken for that of a stranger."""
    story = alive()
    story.tell(100, BIRTH, boot=BOOT_B)
    story.beat(101, 1, BOOT_B, at=seconds(-2400), score=70)
    story.beat(102, 99, BOOT_A, at=seconds(90), score=100)
    state = story.beat(103, 2, BOOT_B, at=seconds(-2399), score=70)
    assert (state.boot_id, state.session, state.seq) == (BOOT_B, 1, 2)
    assert (state.score, state.status) == (70, WARNING)
    assert story.tell(104, GOODBYE, boot=BOOT_B).status is OFFLINE


def test_after_its_birth_a_boot_counts_even_if_its_clock_fell_back() -> None:
    story = alive()
    story.tell(100, BIRTH, boot=BOOT_B)
    state = story.beat(101, 1, BOOT_B, at=seconds(-86_400), score=90)
    assert (state.boot_id, state.score, state.heartbeat_at) == (BOOT_B, 90, seconds(-86_400))


def test_a_replayed_record_before_the_first_of_the_born_boot_is_no_sample() -> None:
    story = Story()
    story.tell(0, BIRTH, boot=BOOT_B)
    replay = beat(7, BOOT_A, at=seconds(-60))
    assert not is_newest(story.state, replay)
    state = story.beat(1, 7, BOOT_A, at=seconds(-60))
    assert (state.boot_id, state.heartbeat_at, state.sample) == (BOOT_B, None, None)
    assert story.beat(2, 1, BOOT_B).seq == 1


# --- births, goodbyes, wills ----------------------------------------------------------------------


def test_a_birth_alone_makes_nobody_online() -> None:
    story = Story()
    state = story.tell(0, BIRTH, 3)
    assert (state.status, state.boot_id, state.session) == (UNSEEN, BOOT_A, 3)
    assert story.events == []


def test_a_birth_seen_before_is_the_very_same_state() -> None:
    story = alive(3)
    before = story.state
    assert story.tell(9, BIRTH, 3) is before


def test_a_birth_of_an_older_session_is_ignored() -> None:
    story = alive(3)
    before = story.state
    assert story.tell(9, BIRTH, 2) is before


def test_a_birth_of_another_boot_begins_anew() -> None:
    story = alive(3)
    state = story.tell(9, BIRTH, 1, BOOT_B)
    assert (state.boot_id, state.session, state.seq) == (BOOT_B, 1, 0)
    assert (state.status, state.score) == (ONLINE, 100)


def test_a_goodbye_is_offline_at_once_and_one_event_however_often_it_comes() -> None:
    story = alive()
    state = story.tell(5, GOODBYE)
    assert (state.status, state.since, state.ended_at) == (OFFLINE, seconds(5), seconds(5))
    assert story.tell(6, GOODBYE).since == seconds(5)
    assert story.steps() == ["online -> offline (goodbye)"]


def test_a_goodbye_of_a_device_in_warning() -> None:
    story = alive()
    story.beat(2, 2, score=10)
    story.tell(3, GOODBYE)
    assert story.steps() == ["online -> warning (score)", "warning -> offline (goodbye)"]


def test_a_will_waits_for_its_recheck() -> None:
    story = alive()
    state = story.tell(5, WILL)
    assert (state.status, state.will_recheck_at, state.ended_at) == (
        ONLINE,
        seconds(10),
        seconds(5),
    )
    assert story.events == []


def test_a_take_over_by_the_next_session_does_not_flap() -> None:
    story = alive(3)
    story.tell(5, WILL, 3)
    state = story.tell(5.1, BIRTH, 4)
    assert (state.will_recheck_at, state.ended_at, state.session) == (None, None, 4)
    story.beat(5.2, 2)
    assert story.events == []


def test_a_heartbeat_after_the_will_takes_it_back() -> None:
    story = alive()
    story.tell(5, WILL)
    state = story.beat(6, 2)
    assert (state.will_recheck_at, state.ended_at, state.status) == (None, None, ONLINE)


@pytest.mark.parametrize("reason", [WILL, GOODBYE])
def test_the_end_of_an_older_session_is_ignored(reason: Farewell) -> None:
    story = alive(4)
    before = story.state
    assert story.tell(9, reason, 3) is before


@pytest.mark.parametrize("reason", [WILL, GOODBYE])
def test_the_end_of_another_boot_is_ignored(reason: Farewell) -> None:
    story = alive(4)
    before = story.state
    assert story.tell(9, reason, 99, BOOT_C) is before


@pytest.mark.parametrize("reason", [WILL, GOODBYE])
def test_the_end_of_a_newer_session_of_the_boot_counts(reason: Farewell) -> None:
    """Its birth was lost or is still on its way; when it comes it changes nothing to life."""
    story = alive(4)
    state = story.tell(9, reason, 5)
    assert (state.session, state.ended_at) == (5, seconds(9))


@pytest.mark.parametrize("reason", [WILL, GOODBYE])
def test_the_end_of_a_device_nobody_heard_leaves_it_unseen(reason: Farewell) -> None:
    story = Story()
    state = story.tell(9, reason, 2)
    assert (state.status, state.session, state.will_recheck_at) == (UNSEEN, 2, None)
    assert story.events == []


def test_a_will_of_a_device_that_is_offline_changes_no_status_and_asks_no_recheck() -> None:
    story = alive()
    story.tell(5, GOODBYE)
    state = story.tell(6, WILL)
    assert (state.status, state.will_recheck_at, state.ended_at) == (OFFLINE, None, seconds(6))


@pytest.mark.parametrize("reason", [WILL, GOODBYE])
def test_a_heartbeat_received_before_the_end_that_is_known_proves_nothing(reason: Farewell) -> None:
    story = alive()
    before = story.tell(5, reason)
    state = story.beat(4, 2, score=60)
    for name in (
        "status",
        "since",
        "last_heartbeat_at",
        "late_at",
        "offline_at",
        "will_recheck_at",
        "ended_at",
    ):
        assert getattr(state, name) == getattr(before, name), name
    assert (state.seq, state.score) == (2, 60)  # and yet it is the newest sample


def test_a_birth_after_the_end_of_the_same_session_takes_the_end_back() -> None:
    """A broker that is asked again says will and birth in its own order."""
    story = alive()
    story.tell(5, WILL)
    state = story.tell(6, BIRTH)
    assert (state.ended_at, state.will_recheck_at) == (None, None)


# --- the clock of the device ----------------------------------------------------------------------


def test_a_clock_in_the_future_is_an_event_at_once_and_so_is_its_recovery() -> None:
    story = alive()
    story.beat(31, 2, at=seconds(31 + 300))
    assert story.skews() == []
    story.beat(61, 3, at=seconds(61 + 300.5))
    story.beat(91, 4, at=seconds(91 + 4000))
    assert story.skews() == [True]
    story.beat(121, 5)
    assert story.skews() == [True, False]
    first, last = (e for e in story.events if e.kind == SKEW_EVENT)
    assert (first.severity, last.severity) == (Severity.WARNING, Severity.INFO)
    assert first.data == {"skew_s": 300.5, "skewed": True}
    assert first.at == seconds(61)
    assert not story.state.clock_skewed


def test_a_clock_that_stays_in_the_past_is_an_event() -> None:
    story = alive()
    for n in range(1, 6):
        story.beat(30 * n, n + 1, at=seconds(30 * n - 3600))
    assert story.skews() == [True]
    assert story.state.clock_skewed


def test_a_clock_that_lags_by_the_limit_is_none() -> None:
    story = alive()
    for n in range(1, 6):
        story.beat(30 * n, n + 1, at=seconds(30 * n - 300))
    assert story.skews() == []


def test_a_backlog_after_an_outage_is_no_skew() -> None:
    story = alive()
    for n in range(1, 100):
        story.beat(3000 + n / 100, n + 1, at=seconds(30 * n))
    story.beat(3030, 101)
    assert story.skews() == []


def test_a_backlog_of_a_slow_device_is_no_skew() -> None:
    """Two records of a device that speaks every 300 s wait for the platform for 100 s: the first of
    them comes after 2.3 intervals and is 400 s old. It was taken for a clock that is off."""
    story = Story()
    story.beat(0, 1, interval_s=300)
    story.beat(700, 2, at=seconds(300), interval_s=300)
    story.beat(700.1, 3, at=seconds(600), interval_s=300)
    story.beat(900, 4, interval_s=300)
    assert story.skews() == []


def test_a_skew_lasts_through_a_backlog() -> None:
    story = alive()
    story.beat(31, 2, at=seconds(5000))
    story.beat(2000, 3, at=seconds(60))
    story.beat(2000.1, 4, at=seconds(90))
    assert story.skews() == [True]
    assert story.state.clock_skewed


def test_a_replayed_record_judges_no_clock() -> None:
    story = alive()
    story.beat(60, 9)
    story.beat(61, 3, at=seconds(-40_000))
    story.beat(62, 4, at=seconds(40_000))
    assert story.skews() == []


def test_the_clock_of_a_new_boot_is_judged_from_its_second_record() -> None:
    story = alive()
    story.tell(50, BIRTH, boot=BOOT_B)
    for n in range(2, 5):
        story.beat(30 * n, n, BOOT_B, at=seconds(30 * n - 86_400))
    assert story.skews() == [True]


@pytest.mark.parametrize("year", [1970, 2200])
@pytest.mark.parametrize("hours", [-15, 0, 15])
def test_the_earliest_and_the_latest_time_in_any_zone_are_no_error(year: int, hours: int) -> None:
    story = alive()
    story.beat(31, 2, at=datetime(year, 1, 1, tzinfo=timezone(timedelta(hours=hours))))
    story.beat(61, 3)
    assert story.state.status is ONLINE


def test_the_event_of_a_transition_says_why() -> None:
    event = transition("gw-1", ONLINE, OFFLINE, NOW, "silent", None)
    assert event.message == "online -> offline (silent)"
    assert event.data == {"from": "online", "to": "offline", "reason": "silent", "score": None}
    assert event.severity is Severity.WARNING
    assert transition("gw-1", OFFLINE, ONLINE, NOW, "x", 1).severity is Severity.INFO
