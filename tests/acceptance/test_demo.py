"""`fleet demo` without a terminal: the contract of its last line, and what it leaves behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.commands import fleet, is_empty, terminal

FIELDS = {
    "devices",
    "online",
    "warning",
    "offline",
    "updating",
    "unseen",
    "heartbeats_stored",
    "dead_letters",
    "seconds_to_first_heartbeat",
    "rss_mb",
}
TO_FIRST_HEARTBEAT_LIMIT_S = 10.0
RSS_LIMIT_MB = 600.0


@pytest.fixture
def temporary(data_directory: Path) -> Path:
    """Where the demo makes its temporary directory."""
    directory = data_directory / "tmp"
    directory.mkdir()
    return directory


async def test_the_last_line_tells_how_the_fleet_is(data_directory: Path, temporary: Path) -> None:
    arguments = ["demo", "--for", "14", "--interval", "4", "-o", "json"]
    with fleet(*arguments, directory=data_directory, TMPDIR=str(temporary)) as command:
        assert await command.ended() == 0, command.err
        report = command.last_object()
        assert report.keys() >= FIELDS
        assert report["devices"] == 25
        assert report["unseen"] == 0
        statuses = ("online", "warning", "offline", "updating", "unseen")
        assert sum(report[status] for status in statuses) == 25
        assert report["warning"] >= 1, "some run hot"
        assert report["heartbeats_stored"] >= 50
        assert report["dead_letters"] == 0
        assert 0 < report["seconds_to_first_heartbeat"] <= TO_FIRST_HEARTBEAT_LIMIT_S
        assert 50 < report["rss_mb"] <= RSS_LIMIT_MB
        assert command.left() == []
        assert is_empty(temporary)


async def test_ctrl_c_before_a_device_was_seen_is_130(
    data_directory: Path, temporary: Path
) -> None:
    arguments = ["demo", "-o", "json"]
    with fleet(*arguments, directory=data_directory, TMPDIR=str(temporary)) as command:
        await command.appears(lambda: any(temporary.glob("*/logs/postgresql.log")))
        command.interrupt()
        assert await command.ended() == 130
        assert command.last_object()["devices"] == 0
        assert command.left() == []
        assert is_empty(temporary)


async def test_a_terminal_shows_the_fleet_until_ctrl_c(
    data_directory: Path, temporary: Path
) -> None:
    arguments = ["demo", "--devices", "3", "--interval", "1"]
    with (
        terminal() as screen,
        fleet(
            *arguments,
            directory=data_directory,
            terminal=screen.inside,
            TMPDIR=str(temporary),
            TERM="xterm",
        ) as command,
    ):
        await command.appears(lambda: "3 devices" in screen.text and "0 unseen" in screen.text)
        for word in ("SEEN", "SITE", "sim-00003", "SCORE"):
            assert word in screen.text
        command.interrupt()
        assert await command.ended() == 0
        assert "3 of 3 devices were seen" in command.err
        assert command.left() == []
        assert is_empty(temporary)
