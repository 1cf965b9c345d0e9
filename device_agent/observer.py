"""Who wants to know what happened on the wire: nobody, a `--once`, or a simulator's journal."""

from __future__ import annotations

from device_agent.records import Outgoing
from fleet_core.contract.errors import Unavailable
from fleet_core.contract.messages import Receipt


class Observer:
    """Told by the agent, in order; this one does nothing with it. No method may raise or wait."""

    def connected(self) -> None:
        """The birth of a session has been confirmed by the broker."""

    def disconnected(self, _error: Unavailable) -> None:
        """A session, or an attempt at one, ended for want of a connection."""

    def sending(self, outgoing: Outgoing) -> None:
        """This goes out now: called before the first byte does."""

    def acknowledged(self, outgoing: Outgoing) -> None:
        """The broker has it."""

    def receipted(self, receipt: Receipt) -> None:
        """The platform has these records in its database."""
