"""The journal: what each device sent, what the broker acknowledged, what the platform receipted.

One JSON line per record and step, `{device, boot, seq, what, t}`, `t` in seconds since 1970. A
`sent` line is handed to the operating system before the packet is, so the journal never knows less
than the wire, whoever is killed.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import msgspec

from device_agent.machine import Machine
from device_agent.moment import MomentClock
from device_agent.observer import Observer
from device_agent.records import Outgoing
from fleet_core.contract.errors import Unavailable
from fleet_core.contract.messages import Receipt

FOREIGN_RANGE_LIMIT = 1000
"""Records of a range that are written for a boot that is not of this process."""
_encode = msgspec.json.Encoder().encode


class Journal:
    """An append-only file. Every line is whole."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def write(self, device: str, boot: str, seqs: Iterable[int], what: str, t: float) -> None:
        """One line for each of `seqs`."""
        lines = [
            _encode({"device": device, "boot": boot, "seq": seq, "what": what, "t": round(t, 3)})
            for seq in seqs
        ]
        if lines:
            rest = memoryview(b"\n".join(lines) + b"\n")
            while rest:
                rest = rest[os.write(self._file, rest) :]

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)


class Tally(Counter[str]):
    """Counts of the whole fleet: connected, sent, acked, receipted, lost."""


class DeviceObserver(Observer):
    """Follows one device for the tally and, where there is one, the journal."""

    def __init__(
        self,
        device_id: str,
        machine: Machine,
        clock: MomentClock,
        tally: Tally,
        journal: Journal | None,
    ) -> None:
        self._device_id, self._machine, self._clock = device_id, machine, clock
        self._tally, self._journal = tally, journal
        self._connected = False

    def connected(self) -> None:
        self._connected = True
        self._tally["connected"] += 1

    def disconnected(self, _error: Unavailable) -> None:
        self._tally["lost"] += 1
        self._tally["connected"] -= self._connected
        self._connected = False

    def sending(self, outgoing: Outgoing) -> None:
        self._note("sent", outgoing.boot_id, outgoing.seqs)

    def acknowledged(self, outgoing: Outgoing) -> None:
        self._note("acked", outgoing.boot_id, outgoing.seqs)

    def receipted(self, receipt: Receipt) -> None:
        own = receipt.boot_id == self._machine.boot_id
        for first, last in receipt.ranges:
            limit = self._machine.last_seq if own else first + FOREIGN_RANGE_LIMIT - 1
            self._note("receipted", receipt.boot_id, range(first, min(last, limit) + 1))

    def _note(self, what: str, boot_id: str, seqs: tuple[int, ...] | range) -> None:
        self._tally[what] += len(seqs)
        if self._journal is not None:
            self._journal.write(self._device_id, boot_id, seqs, what, self._clock().at.timestamp())
