"""Log lines on stderr: `time level name message key=value …`, one line each whatever is in them.

The standard library's logging, not structlog: on a device its 5 MB are better kept free.
"""

from __future__ import annotations

import json
import logging
from typing import Any

_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.:/~+")


def fields(**values: object) -> dict[str, Any]:
    """The `extra` of a log call: `logger.info("agent.connected", extra=fields(session=3))`."""
    return {"fields": values}


def set_up(level: int = logging.INFO) -> None:
    """Send everything from `level` up to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(KeyValueFormatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=level, handlers=[handler], force=True)


class KeyValueFormatter(logging.Formatter):
    """Appends `fields`; values that are not plain words are quoted and escaped as JSON."""

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        values: dict[str, object] = getattr(record, "fields", {})
        words = "".join(f" {key}={_quoted(value)}" for key, value in values.items())
        first, *traceback = line.split("\n")
        return "\n".join([first + words, *traceback])


def _quoted(value: object) -> str:
    text = str(value)
    return text if text and set(text) <= _PLAIN else json.dumps(text)
