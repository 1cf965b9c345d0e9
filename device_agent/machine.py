"""The agent's state machine: everything an agent decides, without a socket, a clock or a thread.

- The shell (`agent.py`) says what happened and when; the machine answers with what to publish.
- `boot_id` names a start of the process, `session` counts its attempts to connect. A session's
  will is handed out before it, so a late will never speaks for a newer session.
- One `seq` per boot numbers heartbeats and events. It is used up even when a record can't be kept.
- The first publication of a connection is the birth; then a heartbeat with info; then the spool.
  The first heartbeat of a boot waits until there is something to measure; so does the spool.
- A live heartbeat never waits: it goes out at once, in the window or not (`replay.py`).
- A record leaves the spool when exactly it is receipted, or counted when there is no room for it.
- While there is no connection, heartbeats are kept at their interval: a gap in a link is not a gap
  in the history.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

import msgspec

from device_agent.host import Sample
from device_agent.moment import Moment
from device_agent.records import Outgoing, Record, RecordKind, fits, outgoing, publish
from device_agent.replay import Replay
from device_agent.spool import Entry, Spool
from fleet_core.contract.codec import decode_as, encode
from fleet_core.contract.errors import InvalidPayload
from fleet_core.contract.messages import (
    MAX_CONNECTORS,
    Connector,
    ConnectorStatus,
    DeviceInfo,
    DeviceStatus,
    Event,
    Farewell,
    Heartbeat,
    Presence,
    Receipt,
    Severity,
)
from fleet_core.contract.publication import Publication
from fleet_core.contract.topics import DEVICE_STATUS

SPOOL_RETRY_S = 30.0
"""How long a spool that failed to read is left alone."""
DROP_REPORT_INTERVAL_S = 60.0
"""At least this long between two events that report dropped records."""
UNKEPT_LIMIT = 100
"""Events the spool could not keep that wait to be published once, unkept."""
SILENCE_S = 30.0
"""This long without a receipt for what was sent, and the platform may not know the device."""
SILENCE_REPORT_INTERVAL_S = 3600.0
"""At least this long between two reports of it."""

_SEVERITIES = {
    ConnectorStatus.RUNNING: Severity.INFO,
    ConnectorStatus.STARTING: Severity.INFO,
    ConnectorStatus.FAILED: Severity.ERROR,
}


class MachineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator decides about a device. `measured_after_s`: how long after the start the
    first heartbeat has something to say."""

    device_id: str
    interval_s: int = 30
    spool_heartbeats: bool = True
    measured_after_s: float = 0.0


class Machine:
    """One boot of one device. `sample` is asked for the machine's state when a heartbeat is due."""

    def __init__(
        self,
        settings: MachineSettings,
        spool: Spool,
        sample: Callable[[Moment], Sample],
        now: Moment,
        boot_id: str | None = None,
    ) -> None:
        self.boot_id = boot_id or uuid.uuid4().hex
        self.session = 0
        self.refused = 0
        self._settings = settings
        self._spool = spool
        self._sample = sample
        self._replay = Replay()
        self._seq = 0
        self._connected = False
        self._heartbeat_due_s = now.elapsed_s + settings.interval_s
        self._measured_at_s = now.elapsed_s + settings.measured_after_s
        self._report_after_s = now.elapsed_s
        self._silence_after_s = now.elapsed_s
        self._read_after_s = now.elapsed_s
        self._info: DeviceInfo | None = None
        self._connectors: dict[str, ConnectorStatus] | None = None
        self._trimmed = False
        self._unkept: deque[Record] = deque(maxlen=UNKEPT_LIMIT)

    @property
    def last_seq(self) -> int:
        """The number of the newest record of this boot; 0 before the first."""
        return self._seq

    def on_connecting(self, now: Moment) -> Publication:
        """A connection is going to be tried: begin a session, and return its will."""
        self.session += 1
        return self._status(Presence.OFFLINE, Farewell.WILL, now)

    def on_connected(self, now: Moment) -> list[Outgoing]:
        """The session is up: the birth, which must arrive first, and a heartbeat."""
        self._connected = True
        self._replay.restart()
        self._read_after_s = max(now.elapsed_s, self._measured_at_s)
        self._info = None
        birth = Outgoing(self._status(Presence.ONLINE, Farewell.BIRTH, now))
        if now.elapsed_s < self._measured_at_s:
            self._heartbeat_due_s = self._measured_at_s
            return [birth]
        self._heartbeat_due_s = now.elapsed_s + self._settings.interval_s
        return [birth, *self._beat(now)]

    def on_disconnected(self) -> None:
        """The session is over, however it ended."""
        self._connected = False

    def on_tick(self, now: Moment) -> list[Outgoing]:
        """What is due: a heartbeat, then what the spool still owes."""
        beat: list[Outgoing] = []
        if now.elapsed_s >= self._heartbeat_due_s:
            overslept_s = now.elapsed_s - self._heartbeat_due_s
            missed = overslept_s // self._settings.interval_s
            self._heartbeat_due_s += (1 + missed) * self._settings.interval_s
            beat = self._beat(now)
        self._report_losses(now)
        return beat + self._owed(now) if self._connected else []

    def on_receipt(self, receipt: Receipt) -> None:
        """These records are in the platform's database: they are never sent again."""
        self._replay.answered()
        for position in self._spool.remove(receipt.boot_id, receipt.ranges):
            self._replay.forget(position)

    def on_connectors(self, connectors: Sequence[Connector], now: Moment) -> None:
        """The connectors as they are seen now; every change of a status becomes an event."""
        known = self._connectors
        self._connectors = {connector.name: connector.status for connector in connectors}
        if known is None:
            return
        for name in sorted(known.keys() | self._connectors.keys()):
            before, after = known.get(name), self._connectors.get(name)
            if before != after:
                self._connector_changed(name, before, after, now)

    def add_event(
        self,
        kind: str,
        now: Moment,
        *,
        severity: Severity = Severity.INFO,
        message: str = "",
        data: dict[str, Any] | None = None,
    ) -> bool:
        """Record that something happened; it is sent with the next tick.

        False, and counted in `refused`, when the event breaks the contract or is too large.
        """
        record = self._event(kind, now.at, severity, message, data or {})
        if record is None:
            self.refused += 1
            return False
        if self._spool.append(record) is None:
            self._unkept.append(record)
        return True

    def goodbye(self, now: Moment) -> Outgoing:
        """The session ends on purpose: the last word of it."""
        return Outgoing(self._status(Presence.OFFLINE, Farewell.GOODBYE, now))

    def take_silence_s(self, now: Moment) -> float | None:
        """How long what is sent has stayed without any receipt; None when that needs no report."""
        since_s = self._replay.unanswered_since_s
        if not self._connected or since_s is None or now.elapsed_s < self._silence_after_s:
            return None
        if now.elapsed_s - since_s < SILENCE_S:
            return None
        self._silence_after_s = now.elapsed_s + SILENCE_REPORT_INTERVAL_S
        return now.elapsed_s - since_s

    def next_due_s(self, now: Moment) -> float:
        """Seconds until `on_tick` has something to do; 0 when it has now."""
        due = [self._heartbeat_due_s]
        if self._connected:
            unsent = self._replay.cursor < self._spool.last_position
            replay_s = self._replay.next_due_s(now.elapsed_s, unsent=unsent)
            if replay_s is not None:
                due.append(max(replay_s, self._read_after_s))
            if self._unkept:
                due.append(now.elapsed_s)
        return max(0.0, min(due) - now.elapsed_s)

    def _status(self, state: Presence, reason: Farewell, now: Moment) -> Publication:
        status = DeviceStatus(
            state=state, reason=reason, boot_id=self.boot_id, session=self.session, at=now.at
        )
        return publish(DEVICE_STATUS, self._settings.device_id, encode(status))

    def _beat(self, now: Moment) -> list[Outgoing]:
        """Make a heartbeat, keep it, and send it if there is somebody to send it to."""
        if not (self._connected or self._settings.spool_heartbeats):
            return []
        sample = self._sample(now)
        self.on_connectors(sample.connectors, now)
        self._seq += 1
        record = self._heartbeat(sample, now)
        if self._settings.spool_heartbeats:
            self._keep_heartbeat(record, now)
        if not self._connected:
            return []
        self._info = sample.info
        return outgoing(self._settings.device_id, [record], live=True)

    def _keep_heartbeat(self, record: Record, now: Moment) -> None:
        at_end = self._spool.rows == 0 or self._replay.cursor == self._spool.last_position
        position = self._spool.append(record)
        if position is not None and self._connected:
            self._replay.sent(position, now.elapsed_s)
            if at_end:
                self._replay.cursor = position

    def _heartbeat(self, sample: Sample, now: Moment) -> Record:
        """The heartbeat of `sample`, cut down until it fits its topic: a sign of life goes out."""
        whole = Heartbeat(
            boot_id=self.boot_id,
            seq=self._seq,
            at=now.at,
            interval_s=self._settings.interval_s,
            metrics=sample.metrics,
            connectors=list(sample.connectors[:MAX_CONNECTORS]),
            info=sample.info if sample.info != self._info else None,
            receipt=self._settings.spool_heartbeats,
        )
        record = self._heartbeat_record(whole)
        for smaller in _smaller(whole):
            if fits(record):
                break
            record = self._heartbeat_record(smaller)
            self._note_trimmed(now)
        return record

    def _heartbeat_record(self, heartbeat: Heartbeat) -> Record:
        return Record(self.boot_id, heartbeat.seq, RecordKind.HEARTBEAT, encode(heartbeat))

    def _note_trimmed(self, now: Moment) -> None:
        if not self._trimmed:
            self._trimmed = True
            self.add_event("heartbeat.trimmed", now, severity=Severity.WARNING)

    def _owed(self, now: Moment) -> list[Outgoing]:
        """Records of the spool whose turn it is: what was never sent, then what is overdue.

        What was not receipted in company is sent again alone, so that one event the platform
        can't take does not hold back its batch.
        """
        device_id = self._settings.device_id
        unkept = outgoing(device_id, [*self._take_unkept()], live=False)
        room = self._replay.room(now.elapsed_s) if now.elapsed_s >= self._read_after_s else 0
        unsent = self._unsent(room, now) if room else []
        overdue = self._overdue(room - len(unsent), now)
        for entry in (*unsent, *overdue):
            self._replay.sent(entry.position, now.elapsed_s)
        first = outgoing(device_id, [entry.record for entry in unsent], live=False)
        again = [o for e in overdue for o in outgoing(device_id, [e.record], live=False)]
        return unkept + first + again

    def _unsent(self, limit: int, now: Moment) -> list[Entry]:
        """The next entries under the cursor that were not sent on this connection."""
        entries = self._spool.read(self._replay.cursor, limit)
        if self._spool.failing:
            self._read_after_s = now.elapsed_s + SPOOL_RETRY_S
        elif entries:
            self._replay.cursor = entries[-1].position
        else:
            self._replay.cursor = self._spool.last_position
        return [entry for entry in entries if not self._replay.is_sent(entry.position)]

    def _overdue(self, limit: int, now: Moment) -> list[Entry]:
        """The oldest entries whose receipt did not come in time."""
        positions = self._replay.overdue(now.elapsed_s, limit)
        entries = self._spool.fetch(positions)
        if self._spool.failing:
            self._read_after_s = now.elapsed_s + SPOOL_RETRY_S
            return []
        for position in set(positions) - {entry.position for entry in entries}:
            self._replay.forget(position)
        return entries

    def _take_unkept(self) -> Iterator[Record]:
        while self._unkept:
            yield self._unkept.popleft()

    def _event(
        self, kind: str, at: datetime, severity: Severity, message: str, data: dict[str, Any]
    ) -> Record | None:
        """The record of an event; None when it breaks the contract, which uses up no number."""
        event = Event(
            seq=self._seq + 1, at=at, kind=kind, severity=severity, message=message, data=data
        )
        try:
            payload = encode(event)
            decode_as(Event, payload)
        except (InvalidPayload, TypeError, ValueError, RecursionError):
            return None
        record = Record(self.boot_id, event.seq, RecordKind.EVENT, payload)
        if not fits(record):
            return None
        self._seq += 1
        return record

    def _connector_changed(
        self,
        name: str,
        before: ConnectorStatus | None,
        after: ConnectorStatus | None,
        now: Moment,
    ) -> None:
        severity = _SEVERITIES.get(after, Severity.WARNING) if after else Severity.WARNING
        self.add_event(
            "connector.changed",
            now,
            severity=severity,
            data={"connector": name, "before": before, "after": after},
        )

    def _report_losses(self, now: Moment) -> None:
        """Say what the spool lost, once in a while, and only where that displaces nothing."""
        if self._spool.take_reset():
            self._replay.restart()
            self.add_event("spool.reset", now, severity=Severity.ERROR)
        dropped = self._spool.dropped
        if not dropped or not self._spool.has_room or now.elapsed_s < self._report_after_s:
            return
        self._report_after_s = now.elapsed_s + DROP_REPORT_INTERVAL_S
        data = {"count": dropped}
        record = self._event("spool.dropped", now.at, Severity.WARNING, "", data)
        if record is not None:
            self._spool.append(msgspec.structs.replace(record, reports=dropped))


def _smaller(heartbeat: Heartbeat) -> Iterator[Heartbeat]:
    """Ever smaller versions: half the connectors each time, at last without what is optional."""
    connectors = heartbeat.connectors
    while connectors:
        connectors = connectors[: len(connectors) // 2]
        yield msgspec.structs.replace(heartbeat, connectors=connectors)
    metrics = msgspec.structs.replace(heartbeat.metrics, custom={})
    yield msgspec.structs.replace(heartbeat, connectors=[], info=None, metrics=metrics)
