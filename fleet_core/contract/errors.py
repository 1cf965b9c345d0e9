"""The three things that can go wrong, and who has to act.

- `Rejected`: the sender's fault. The message becomes a dead letter and is acknowledged.
- `Unavailable`: nobody's fault. Nothing is acknowledged; the work is tried again.
- `ConfigError`: the operator's fault. The process refuses to start and says why.

Anything else that is raised is a bug in this project. Each cause is a class of its own and keeps
its reason in attributes, so that a caller never parses a sentence.
"""

from __future__ import annotations


class FleetError(Exception):
    """Root of everything this project raises on purpose."""


class Rejected(FleetError):
    """The sender's message can't be accepted, now or later.

    `reason` is a short stable word in snake case: it is counted, stored and filtered by.
    `detail` is for people.
    """

    reason = "rejected"

    def __init__(self, detail: str = "") -> None:
        super().__init__(f"{self.reason}: {detail}" if detail else self.reason)
        self.detail = detail


class InvalidTopic(Rejected):
    """The topic does not follow the grammar, or names no channel of the contract."""

    reason = "invalid_topic"


class PayloadTooLarge(Rejected):
    """The payload is longer than its topic allows."""

    reason = "payload_too_large"

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(f"{size_bytes} bytes, at most {limit_bytes} are allowed")
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes


class InvalidPayload(Rejected):
    """The payload is not JSON, or not of the shape its topic asks for."""

    reason = "invalid_payload"


class UnknownDevice(Rejected):
    """The device is not in the registry. Registration is never a side effect of talking."""

    reason = "unknown_device"


class ImplausibleTime(Rejected):
    """A record's own time lies outside what history can hold."""

    reason = "implausible_time"


class RefusedByDatabase(Rejected):
    """The database refused this very row, alone in its transaction."""

    reason = "refused_by_database"


class TookTooLong(Rejected):
    """Carrying it out took longer than a statement may, and its sender waits for an answer."""

    reason = "took_too_long"


class HandlerFault(Rejected):
    """A bug in a handler. The message is kept as a dead letter and the process lives on."""

    reason = "handler_fault"


class Unavailable(FleetError):
    """Something this process needs is not there at the moment; try again."""


class ConfigError(FleetError):
    """The configuration is not one a process may start with."""
