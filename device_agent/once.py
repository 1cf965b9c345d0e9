"""`--once`: one heartbeat to the platform's database and back, as an exit code."""

from __future__ import annotations

import asyncio
import logging

from device_agent.agent import no_receipt
from device_agent.logs import fields
from device_agent.machine import Machine
from device_agent.observer import Observer
from device_agent.records import Outgoing
from fleet_core.contract.errors import Unavailable
from fleet_core.contract.messages import Receipt

logger = logging.getLogger(__name__)

RECEIPT_TIMEOUT_S = 15.0
EXIT_OK = 0
EXIT_TIMEOUT = 6
EXIT_UNREACHABLE = 9


class FirstReceipt(Observer):
    """Stops the agent when its first live record is receipted, when its connection fails, or when
    somebody gives up waiting."""

    def __init__(self, machine: Machine, stop: asyncio.Event) -> None:
        self.exit_code = EXIT_UNREACHABLE
        self._machine, self._stop = machine, stop
        self._seq: int | None = None

    def connected(self) -> None:
        self.exit_code = EXIT_TIMEOUT
        logger.info("once.waiting", extra=fields(timeout_s=RECEIPT_TIMEOUT_S))

    def give_up(self) -> None:
        """`RECEIPT_TIMEOUT_S` after the start: say what is missing, and stop."""
        if self._stop.is_set():
            return
        if self.exit_code == EXIT_TIMEOUT:
            reason = no_receipt(RECEIPT_TIMEOUT_S)
            logger.warning("once.unreceipted", extra=fields(reason=reason))
        self._stop.set()

    def disconnected(self, _error: Unavailable) -> None:
        if not self._stop.is_set():
            self.exit_code = EXIT_UNREACHABLE
            self._stop.set()

    def sending(self, outgoing: Outgoing) -> None:
        if self._seq is None and outgoing.live and outgoing.seqs:
            self._seq = outgoing.seqs[0]

    def receipted(self, receipt: Receipt) -> None:
        seq = self._seq
        if seq is None or receipt.boot_id != self._machine.boot_id:
            return
        if any(first <= seq <= last for first, last in receipt.ranges):
            self.exit_code = EXIT_OK
            self._stop.set()
