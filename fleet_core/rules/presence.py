"""Presence: what is known of a device's life, and how evidence changes it (design §5).

Nobody writes a status by hand. It follows from evidence, and silence is evidence with a deadline:

- A heartbeat is proof of life at its receive time. It sets two deadlines, `late_at` and
  `offline_at`, in intervals the device itself announced. A sweep applies deadlines that passed
  (`registry/sql/states.sql`, `sweep`), so a restart of the platform changes nothing.
- A goodbye makes a device offline at once. A will does so after a recheck, so that a device that
  is taken over by its own next session doesn't flap.
- Status messages are ordered by boot and session: a will or a goodbye counts only for the session
  that is known, or a newer one of the same boot. A birth of another boot is a new life.
- A heartbeat that was received before the end that is known proves nothing any more.
- The newest sample decides score and metrics: the highest `seq` of the known boot. Once a boot is
  known only a birth makes another one known: what else arrives of another boot is replayed history
  (and proof of life). A device's clock can't order boots, since many have none before NTP.
- Receive time decides presence. The device's clock is only judged: a skew is an event.

Status is the first that holds: updating, offline, warning, online; `unseen` before any heartbeat.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec

from fleet_core.contract.messages import (
    DeviceHealth,
    DeviceStatus,
    Farewell,
    Heartbeat,
    Severity,
)

STATUS_EVENT = "device.status"
SKEW_EVENT = "device.clock_skew"


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """When silence becomes lateness and absence. `strict` knows no lateness."""

    strict: bool = False
    late_after_intervals: float = 2
    offline_after_intervals: float = 10
    will_recheck_s: float = 5
    clock_skew_limit_s: float = 300
    warning_below_score: float = 80

    def deadlines(self, received_at: datetime, interval_s: int) -> tuple[datetime, datetime]:
        """`late_at` and `offline_at` after a sign of life at `received_at`."""
        late_at = received_at + timedelta(seconds=self.late_after_intervals * interval_s)
        if self.strict:
            return late_at, late_at
        return late_at, received_at + timedelta(seconds=self.offline_after_intervals * interval_s)


class DeviceState(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one device. `last_heartbeat_at` is receive time, `heartbeat_at` the
    device's own; `sample` is the newest heartbeat where it is not in the registry yet."""

    device_id: str
    status: DeviceHealth
    since: datetime
    score: int | None = None
    updating: bool = False
    boot_id: str | None = None
    session: int = 0
    seq: int = 0
    interval_s: int | None = None
    heartbeat_at: datetime | None = None
    last_heartbeat_at: datetime | None = None
    late_at: datetime | None = None
    offline_at: datetime | None = None
    will_recheck_at: datetime | None = None
    ended_at: datetime | None = None
    clock_skewed: bool = False
    sample: Heartbeat | None = None


class PlatformEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Something the platform noticed about a device, for the device's event log."""

    device_id: str
    at: datetime
    kind: str
    severity: Severity
    message: str
    data: dict[str, Any] = {}


class Change(msgspec.Struct, frozen=True):
    """What one piece of evidence leads to."""

    state: DeviceState
    events: tuple[PlatformEvent, ...] = ()


def status_of(
    *,
    seen: bool,
    updating: bool,
    offline: bool,
    late: bool,
    score: int | None,
    warning_below: float,
) -> DeviceHealth:
    """The first status that holds."""
    if not seen:
        return DeviceHealth.UNSEEN
    if updating:
        return DeviceHealth.UPDATING
    if offline:
        return DeviceHealth.OFFLINE
    if late or (score is not None and score < warning_below):
        return DeviceHealth.WARNING
    return DeviceHealth.ONLINE


def heard_heartbeat(
    state: DeviceState, heartbeat: Heartbeat, received_at: datetime, score: int, policy: Policy
) -> Change:
    """What a heartbeat received at `received_at`, worth `score`, makes of `state`."""
    newest = is_newest(state, heartbeat)
    alive = state.ended_at is None or received_at > state.ended_at
    skewed = _is_skewed(state, heartbeat, received_at, policy) if newest else state.clock_skewed
    known_score = score if newest or state.score is None else state.score
    interval_s = heartbeat.interval_s if newest or not state.interval_s else state.interval_s
    late_at, offline_at = state.late_at, state.offline_at
    status = state.status
    if alive:
        late_at, offline_at = policy.deadlines(received_at, interval_s)
        status = status_of(
            seen=True,
            updating=state.updating,
            offline=False,
            late=False,
            score=known_score,
            warning_below=policy.warning_below_score,
        )
    changed = DeviceState(
        device_id=state.device_id,
        status=status,
        since=state.since if status is state.status else received_at,
        score=known_score,
        updating=state.updating,
        boot_id=heartbeat.boot_id if newest else state.boot_id,
        session=state.session,
        seq=heartbeat.seq if newest else state.seq,
        interval_s=interval_s,
        heartbeat_at=heartbeat.at if newest else state.heartbeat_at,
        last_heartbeat_at=received_at if alive else state.last_heartbeat_at,
        late_at=late_at,
        offline_at=offline_at,
        will_recheck_at=None if alive else state.will_recheck_at,
        ended_at=None if alive else state.ended_at,
        clock_skewed=skewed,
        sample=heartbeat if newest else state.sample,
    )
    if status is state.status and skewed is state.clock_skewed:
        return Change(changed)
    events: tuple[PlatformEvent, ...] = ()
    if status is not state.status:
        reason = "score" if status is DeviceHealth.WARNING else "heartbeat"
        events += (transition(state.device_id, state.status, status, received_at, reason, score),)
    if skewed is not state.clock_skewed:
        events += (_skew_event(state.device_id, heartbeat.at, received_at, skewed=skewed),)
    return Change(changed, events)


def heard_status(
    state: DeviceState, message: DeviceStatus, received_at: datetime, policy: Policy
) -> Change:
    """What a birth, goodbye or will received at `received_at` makes of `state`."""
    same_boot = message.boot_id == state.boot_id
    if same_boot and message.session < state.session:
        return Change(state)
    if message.reason is Farewell.BIRTH:
        return Change(_born(state, message, same_boot=same_boot))
    if state.boot_id is not None and not same_boot:
        return Change(state)
    ended = msgspec.structs.replace(
        state, boot_id=message.boot_id, session=message.session, ended_at=received_at
    )
    if state.status in (DeviceHealth.UNSEEN, DeviceHealth.OFFLINE):
        return Change(ended)
    if message.reason is Farewell.WILL:
        recheck_at = received_at + timedelta(seconds=policy.will_recheck_s)
        return Change(msgspec.structs.replace(ended, will_recheck_at=recheck_at))
    status = status_of(
        seen=True,
        updating=state.updating,
        offline=True,
        late=False,
        score=state.score,
        warning_below=policy.warning_below_score,
    )
    if status is state.status:
        return Change(ended)
    event = transition(
        state.device_id, state.status, status, received_at, message.reason.value, state.score
    )
    return Change(msgspec.structs.replace(ended, status=status, since=received_at), (event,))


def is_newest(state: DeviceState, heartbeat: Heartbeat) -> bool:
    """Whether `heartbeat` is the newest sample of its device."""
    if state.boot_id is None:
        return True
    return heartbeat.boot_id == state.boot_id and heartbeat.seq > state.seq


def transition(
    device_id: str,
    before: DeviceHealth,
    after: DeviceHealth,
    at: datetime,
    reason: str,
    score: int | None,
) -> PlatformEvent:
    """The event of a change of status. `reason`: heartbeat, score, late, silent, will, goodbye."""
    worse = after in (DeviceHealth.OFFLINE, DeviceHealth.WARNING)
    return PlatformEvent(
        device_id=device_id,
        at=at,
        kind=STATUS_EVENT,
        severity=Severity.WARNING if worse else Severity.INFO,
        message=f"{before.value} -> {after.value} ({reason})",
        data={"from": before.value, "to": after.value, "reason": reason, "score": score},
    )


def _born(state: DeviceState, message: DeviceStatus, *, same_boot: bool) -> DeviceState:
    """A new session; of another boot, `seq` begins anew. A birth seen before changes nothing."""
    if same_boot and message.session == state.session and state.ended_at is None:
        return state
    return msgspec.structs.replace(
        state,
        boot_id=message.boot_id,
        session=message.session,
        seq=state.seq if same_boot else 0,
        will_recheck_at=None,
        ended_at=None,
    )


def _is_skewed(
    state: DeviceState, heartbeat: Heartbeat, received_at: datetime, policy: Policy
) -> bool:
    """Whether the device's clock is off. The future is always wrong; the past only in a steady
    stream, where device time and receive time go on alike: a backlog after an outage is old
    without being wrong."""
    ahead_s = (heartbeat.at - received_at).total_seconds()
    if ahead_s > policy.clock_skew_limit_s:
        return True
    if ahead_s >= -policy.clock_skew_limit_s:
        return False
    last_received_at, last_at = state.last_heartbeat_at, state.heartbeat_at
    if last_received_at is None or last_at is None or heartbeat.boot_id != state.boot_id:
        return state.clock_skewed
    gap_s = (received_at - last_received_at).total_seconds()
    lost_s = gap_s - (heartbeat.at - last_at).total_seconds()
    steady = 0.5 <= gap_s / heartbeat.interval_s <= 3 and abs(lost_s) <= heartbeat.interval_s / 2
    return state.clock_skewed or steady


def _skew_event(
    device_id: str, device_at: datetime, received_at: datetime, *, skewed: bool
) -> PlatformEvent:
    skew_s = round((device_at - received_at).total_seconds(), 3)
    return PlatformEvent(
        device_id=device_id,
        at=received_at,
        kind=SKEW_EVENT,
        severity=Severity.WARNING if skewed else Severity.INFO,
        message=f"the device's clock is off by {skew_s:g} s"
        if skewed
        else "the clock is right again",
        data={"skew_s": skew_s, "skewed": skewed},
    )
