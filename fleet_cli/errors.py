"""How a command fails: one envelope, one exit code for each word (design §13).

- The envelope is `{code, message, hint, details}`; `code` is a stable word, the rest is for people.
- Words of the platform's answers (`ErrorCode`) and words of this command share one table.
- A word nobody knows is an internal error: exit code 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fleet_core.contract.errors import FleetError

EXIT_OK = 0
EXIT_INTERNAL = 1
EXIT_INTERRUPTED = 130
EXIT_CODES: Mapping[str, int] = {
    "internal": EXIT_INTERNAL,
    "usage": 2,
    "not_found": 3,
    "denied": 4,
    "conflict": 5,
    "timeout": 6,
    "partial_failure": 7,
    "all_failed": 8,
    "broker_unreachable": 9,
    "interrupted": EXIT_INTERRUPTED,
}


def exit_code(code: str) -> int:
    """The exit code of an error word.

    >>> exit_code("conflict"), exit_code("a word of a later version")
    (5, 1)
    """
    return EXIT_CODES.get(code, EXIT_INTERNAL)


class CommandFailed(FleetError):
    """A command ends here. `code` decides the exit code; `hint` says what to do about it."""

    def __init__(
        self, code: str, message: str, hint: str = "", details: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.details = dict(details or {})

    def envelope(self) -> dict[str, Any]:
        """The four fields as plain values."""
        return {
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "details": self.details,
        }


class RequestFailed(CommandFailed):
    """The platform answered with an error, or with something that is no answer."""


class NoAnswer(CommandFailed):
    """The broker took the request and nobody answered in time."""

    def __init__(self, operation: str, timeout_s: float) -> None:
        super().__init__(
            "timeout",
            f"no answer to {operation} within {timeout_s:g} s",
            "is the platform running? `fleet up` starts it; a longer --timeout gives it more time",
        )


class BrokerUnreachable(CommandFailed):
    """There is no connection to the broker, or it broke."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            "broker_unreachable",
            reason,
            "is the broker running? `fleet up` starts one; --url or FLEET_BROKER_URL names another",
        )


class UsageFailed(CommandFailed):
    """The command line can't be carried out as it stands."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__("usage", message, hint)


class ReaderGone(FleetError):
    """Whoever read our output closed the pipe: `| head`. Nothing is wrong."""
