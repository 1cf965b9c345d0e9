"""Nothing that came from outside can write a line of its own, or obey a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import structlog

from fleet_core.runtime import logs
from fleet_core.runtime.logs import VALUE_LIMIT, clean, printable

FORGED = "x\r\n2026-03-02T09:30:00Z [error] root logged in"


@pytest.fixture
def _configuration() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)
    structlog.contextvars.clear_contextvars()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain text, ümläut, 漢字", "plain text, ümläut, 漢字"),
        ("a\r\nb", "a\\r\\nb"),
        ("\x1b[2J\x07", "\\x1b[2J\\x07"),
        ("a\0b\x7f", "a\\x00b\\x7f"),
        ("\N{RIGHT-TO-LEFT OVERRIDE}gpj", "\\u202egpj"),
        ("\N{LINE SEPARATOR}x\x85", "\\u2028x\\x85"),
        ("\ud800", "\\ud800"),
        ("", ""),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(text: str, expected: str) -> None:
    assert printable(text) == expected


def test_a_value_is_cut_at_the_limit_and_other_types_are_left() -> None:
    event = clean(None, "", {"event": "x" * (VALUE_LIMIT + 1), "a": "x" * VALUE_LIMIT, "n": 5})
    assert event == {"event": "x" * VALUE_LIMIT, "a": "x" * VALUE_LIMIT, "n": 5}


def test_an_error_that_quotes_a_device_forges_no_line_of_a_traceback() -> None:
    """Tracebacks were taken as they are, so what a handler's error quoted stood in the log."""
    event = clean(None, "", {"exception": f"Traceback\n  File\nValueError: {FORGED}\x1b[2J"})
    lines = event["exception"].split("\n")
    assert lines[:2] == ["  Traceback", "    File"]
    assert all(line.startswith("  ") for line in lines)
    assert "\x1b" not in event["exception"]
    assert "\r" not in event["exception"]


@pytest.mark.parametrize("style", ["console", "json"])
@pytest.mark.usefixtures("_configuration")
def test_a_line_is_one_line_in_either_style(style: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(level="info", style=style, process="ingest")
    log = structlog.get_logger("test")
    log.debug("not said")
    log.warning(FORGED, topic=FORGED, reasons=[FORGED])
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "\r" not in said
    assert "process=ingest" in said or json.loads(said)["process"] == "ingest"


@pytest.mark.usefixtures("_configuration")
def test_a_traceback_is_kept_with_its_lines(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(level="info", style="console", process="ingest")
    try:
        int(FORGED)
    except ValueError:
        structlog.get_logger("test").exception("a handler failed")
    first, *rest = capsys.readouterr().err.rstrip("\n").split("\n")
    assert "a handler failed" in first
    assert rest[0] == "  Traceback (most recent call last):"
    assert [line for line in rest if not line.startswith("  ")] == []
