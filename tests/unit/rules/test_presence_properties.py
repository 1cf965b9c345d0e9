"""Presence under every order, loss and repetition: what holds whatever the messages are."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_core.contract.messages import DeviceHealth, DeviceStatus, Farewell, Heartbeat
from fleet_core.rules.presence import (
    STATUS_EVENT,
    Change,
    DeviceState,
    Policy,
    heard_heartbeat,
    heard_status,
    status_of,
)
from tests.fixtures.store import BOOT_A, BOOT_B, BOOT_C, beat, device_state, seconds, status

POLICY = Policy()
BOOTS = (BOOT_A, BOOT_B, BOOT_C)
Message = Heartbeat | DeviceStatus
LIFE_FIELDS = ("status", "score", "boot_id", "session", "seq", "interval_s", "heartbeat_at")
modest = settings(max_examples=60, deadline=None)


def hear(state: DeviceState, message: Message, s: float) -> Change:
    if isinstance(message, DeviceStatus):
        return heard_status(state, message, seconds(s), POLICY)
    return heard_heartbeat(state, message, seconds(s), _score(message), POLICY)


def hear_all(
    messages: Sequence[Message], state: DeviceState | None = None, s: float = 0
) -> DeviceState:
    state = state or device_state()
    for n, message in enumerate(messages):
        state = hear(state, message, s + n).state
    return state


def _score(heartbeat: Heartbeat) -> int:
    return heartbeat.seq * 37 % 101


@st.composite
def anything(draw: st.DrawFn) -> Message:
    boot = draw(st.sampled_from(BOOTS))
    if draw(st.booleans()):
        at = seconds(draw(st.integers(-10_000, 10_000)))
        return beat(draw(st.integers(1, 20)), boot, at)
    return status(draw(st.sampled_from(Farewell)), draw(st.integers(1, 4)), boot)


@st.composite
def life(draw: st.DrawFn) -> list[Message]:
    """What a device says, in its order: boots, their sessions, heartbeats, and how each ends."""
    messages: list[Message] = []
    for number in range(draw(st.integers(1, 3))):
        seq = 0
        for session in range(1, draw(st.integers(1, 3)) + 1):
            messages.append(status(Farewell.BIRTH, session, BOOTS[number]))
            for _ in range(draw(st.integers(1, 3))):
                seq += 1
                messages.append(beat(seq, BOOTS[number], seconds(1000 * number + seq)))
            end = draw(st.sampled_from([None, Farewell.GOODBYE, Farewell.WILL]))
            if end is not None:
                messages.append(status(end, session, BOOTS[number]))
    return messages


@modest
@given(life(), st.data())
def test_after_a_birth_heartbeats_in_any_order_leave_its_newest_sample(
    told: list[Message], data: st.DataObject
) -> None:
    heartbeats = [m for m in told if isinstance(m, Heartbeat)]
    repeats = data.draw(st.lists(st.sampled_from(heartbeats), max_size=5))
    born = [m for m in told if isinstance(m, DeviceStatus) and m.reason is Farewell.BIRTH][-1]
    state = hear_all([born, *data.draw(st.permutations([*heartbeats, *repeats]))])
    newest = max((h for h in heartbeats if h.boot_id == born.boot_id), key=lambda h: h.seq)
    assert (state.boot_id, state.seq, state.heartbeat_at) == (newest.boot_id, newest.seq, newest.at)
    assert state.score == _score(newest)
    assert state.sample == newest
    assert state.status is (DeviceHealth.ONLINE if _score(newest) >= 80 else DeviceHealth.WARNING)


@modest
@given(life(), st.data())
def test_records_of_the_past_replayed_at_the_end_change_no_sample(
    told: list[Message], data: st.DataObject
) -> None:
    before = hear_all(told)
    heartbeats = [m for m in told if isinstance(m, Heartbeat)]
    after = hear_all(data.draw(st.permutations(heartbeats)), before, s=1000)
    for name in (*LIFE_FIELDS[1:], "sample"):
        assert getattr(after, name) == getattr(before, name), name


@modest
@given(life(), st.data())
def test_the_end_of_a_life_told_again_leads_to_the_same_state(
    told: list[Message], data: st.DataObject
) -> None:
    """A broker repeats, in order, what was not acknowledged: a whole tail of the conversation."""
    once = hear_all(told)
    tail = told[data.draw(st.integers(0, len(told) - 1)) :]
    again = hear_all(tail, once, s=1000)
    for name in (*LIFE_FIELDS, "sample"):
        assert getattr(again, name) == getattr(once, name), name
    assert (again.ended_at is None) == (once.ended_at is None)
    assert (again.will_recheck_at is None) == (once.will_recheck_at is None)


@modest
@given(st.lists(anything(), max_size=20), anything())
def test_the_same_message_twice_in_a_row_is_one_piece_of_news(
    before: list[Message], message: Message
) -> None:
    once = hear(hear_all(before), message, 100)
    twice = hear(once.state, message, 101)
    assert [e for e in twice.events if e.kind == STATUS_EVENT] == []
    for name in (*LIFE_FIELDS, "sample", "since"):
        assert getattr(twice.state, name) == getattr(once.state, name), name


@modest
@given(st.lists(anything(), max_size=30), st.booleans())
def test_whatever_is_said_the_state_is_consistent(
    messages: list[Message],
    updating: bool,
) -> None:
    state = device_state(updating=updating)
    for n, message in enumerate(messages):
        before, change = state, hear(state, message, n)
        state = change.state
        steps = [e for e in change.events if e.kind == STATUS_EVENT]
        if state.status is before.status:
            assert steps == []
            assert state.since == before.since
        else:
            (step,) = steps
            assert (step.data["from"], step.data["to"]) == (before.status, state.status)
            assert state.since == step.at == seconds(n)
        assert (state.status is DeviceHealth.UNSEEN) == (state.last_heartbeat_at is None)
        assert (state.late_at is None) == (state.last_heartbeat_at is None)
        if state.status is not DeviceHealth.UNSEEN and updating:
            assert state.status is DeviceHealth.UPDATING
        if isinstance(message, Heartbeat):
            assert state.status is status_of(
                seen=True,
                updating=updating,
                offline=False,
                late=False,
                score=state.score,
                warning_below=POLICY.warning_below_score,
            )
            assert state.ended_at is None
            assert state.will_recheck_at is None
        if state.will_recheck_at is not None:
            assert state.ended_at is not None
        assert msgspec.structs.replace(state) == state
