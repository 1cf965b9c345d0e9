"""Structured logs on stderr: for people on a console, or JSON for machines.

Values that came from outside are cut and stripped of control characters, so that no device can
write a line of its own into a log or a terminal.
"""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

VALUE_LIMIT = 500
MINUTE_S = 60.0


def configure(*, level: str, style: str, process: str) -> None:
    """Set up logging for this process. `style` is `console` or `json`."""
    structlog.contextvars.bind_contextvars(process=process)
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if style == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)
    )
    before: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*before, clean, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    libraries = logging.StreamHandler(sys.stderr)
    libraries.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=before,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                clean,
                renderer,
            ],
        )
    )
    logging.basicConfig(handlers=[libraries], level=logging.WARNING, force=True)
    logging.getLogger("psycopg.pool").addFilter(Sparingly())


class Sparingly(logging.Filter):
    """Lets a library speak once a minute: the pool repeats itself several times a second while a
    database is away, and the process says so too."""

    def __init__(self) -> None:
        super().__init__()
        self._last_s = -math.inf

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether `record` is let through."""
        if record.created - self._last_s < MINUTE_S:
            return False
        self._last_s = record.created
        return True


def clean(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Cut and escape text values. Our own tracebacks keep their lines, each indented: an error may
    quote what a device said, and that must not look like a line of ours."""
    for key, value in event.items():
        if not isinstance(value, str):
            continue
        if key == "exception":
            event[key] = "\n".join(f"  {printable(line)}" for line in value.split("\n"))
        else:
            event[key] = printable(value[:VALUE_LIMIT])
    return event


def printable(text: str) -> str:
    """Text without anything a terminal or a log would obey: control characters are escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
