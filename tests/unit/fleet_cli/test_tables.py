"""Tables and pages for people: what is in them, what is neutralised, how they fit."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from rich.console import RenderableType

from fleet_cli.columns import status_text
from fleet_cli.dead_letters import dead_letter_page
from fleet_cli.device_page import device_page
from fleet_cli.listings import DEAD_LETTERS, DEVICES
from fleet_cli.live import fleet_view
from fleet_cli.status import status_page
from fleet_cli.tables import UNLIMITED_WIDTH, listing_table, plain_console
from fleet_core.contract.messages import (
    Connector,
    ConnectorStatus,
    DeviceHealth,
    DeviceInfo,
    LiveDevice,
    Metrics,
    Severity,
)
from fleet_core.contract.operations import (
    DeadLetterDetail,
    DeadLetterRow,
    DeviceDetail,
    DeviceEvent,
    DeviceRow,
    FleetSummary,
    ProcessRow,
    Usage,
)
from fleet_core.contract.topics import DEVICE_HEARTBEAT

NOW = datetime(2030, 1, 1, tzinfo=UTC)
EVIL = "\x1b[2J[bold red]\u202ex"


def text_of(renderable: RenderableType, width: int = UNLIMITED_WIDTH) -> str:
    console = plain_console(width)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def row(**changes: Any) -> DeviceRow:
    base = DeviceRow(
        device_id="gw-0001",
        name="Gateway 1",
        site="berlin",
        status=DeviceHealth.ONLINE,
        since=NOW - timedelta(hours=2),
        score=85,
        cpu_percent=12.4,
        ram_percent=None,
        disk_percent=40,
        connectors_running=1,
        connectors_total=2,
        last_seen_at=NOW - timedelta(seconds=12),
        hostname="host",
        addresses=["192.0.2.1"],
        uptime_s=99,
        tags={"env": "lab"},
    )
    return msgspec.structs.replace(base, **changes)


def live(number: int, status: DeviceHealth = DeviceHealth.ONLINE, **changes: Any) -> LiveDevice:
    base = LiveDevice(
        device_id=f"gw-{number}",
        name="x",
        site="berlin",
        status=status,
        since=NOW,
        score=90,
        cpu_percent=50,
        connectors_running=1,
        connectors_total=2,
        last_heartbeat_at=NOW - timedelta(seconds=3),
    )
    return msgspec.structs.replace(base, **changes)


def test_a_row_says_what_people_ask_for() -> None:
    header, line = text_of(listing_table(DEVICES, [row()], NOW)).splitlines()
    assert header.split() == [
        "ID",
        "NAME",
        "SITE",
        "STATUS",
        "SCORE",
        "CPU",
        "RAM",
        "DISK",
        "CONN",
        "SEEN",
        "TAGS",
    ]
    assert "12 s ago" in line
    assert " 12 % " in line
    assert " 1/2 " in line
    assert "env=lab" in line


def test_device_text_moves_nothing_and_is_no_markup() -> None:
    evil = row(name=EVIL, site=EVIL, tags={"k": EVIL})
    text = text_of(listing_table(DEVICES, [evil], NOW))
    assert text.count("\\x1b[2J[bold red]\\u202ex") == 3
    assert text.replace("\n", "").isprintable()


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_table_fits_its_terminal(width: int) -> None:
    long = row(name="n" * 128, site="東京" * 20, tags={"key": "v" * 100})
    lines = text_of(listing_table(DEVICES, [long, row()], NOW), width).splitlines()
    assert len(lines) == 3


def test_what_matters_is_not_cut_on_a_usual_terminal() -> None:
    long = row(name="n" * 128, site="s" * 64, tags={"key": "v" * 100})
    line = text_of(listing_table(DEVICES, [long], NOW), 100).splitlines()[1]
    assert "gw-0001" in line
    assert "online" in line
    assert "12 s ago" in line


GREEDY = {
    "device_id": "g" * 58 + "-0017",
    "name": "Gateway in pump house 2 " * 5,
    "status": DeviceHealth.WARNING,
    "tags": {"key": "v" * 100},
}


def test_one_long_id_leaves_the_rest_of_a_narrow_table_alone() -> None:
    first, second = text_of(
        listing_table(DEVICES, [row(**GREEDY), row(name="Gateway 17")], NOW), 80
    ).splitlines()[1:]
    assert first.split()[0].startswith("ggg")
    assert first.split()[0].endswith("-0017")
    assert "Gateway in p…" in first
    for words in ("● warning (late)", " 85 ", "12 s ago"):
        assert words in first
    assert second.startswith("gw-0001 ")
    assert "Gateway 17" in second


def test_tags_and_connectors_leave_before_names_are_cut_to_pieces() -> None:
    header = text_of(listing_table(DEVICES, [row(**GREEDY)], NOW), 80).splitlines()[0].split()
    assert header[:5] == ["ID", "NAME", "SITE", "STATUS", "SCORE"]
    assert header[-1] == "SEEN"
    assert not {"TAGS", "CONN"} & set(header)


def test_a_table_in_a_pipe_cuts_nothing() -> None:
    line = text_of(listing_table(DEVICES, [row(**GREEDY)], NOW)).splitlines()[1]
    assert "…" not in line
    assert "g" * 58 + "-0017" in line
    assert "v" * 100 in line


@pytest.mark.parametrize("width", [60, 80])
def test_a_list_of_dead_letters_keeps_the_device_in_sight(width: int) -> None:
    topic = DEVICE_HEARTBEAT.topic("gateway-berlin-0017")
    letter = DeadLetterRow(
        id=3, received_at=NOW, topic=topic, reason="too_large", detail="d" * 90, size_bytes=10
    )
    assert "gateway-berlin-0017" in text_of(listing_table(DEAD_LETTERS, [letter], NOW), width)
    assert topic in text_of(listing_table(DEAD_LETTERS, [letter], NOW))


@pytest.mark.parametrize(
    ("status", "score", "text"),
    [
        (DeviceHealth.WARNING, 80, "● warning (late)"),
        (DeviceHealth.WARNING, None, "● warning (late)"),
        (DeviceHealth.WARNING, 79, "● warning"),
        (DeviceHealth.ONLINE, 90, "● online"),
    ],
)
def test_a_status_says_why_a_device_is_in_warning(
    status: DeviceHealth, score: int | None, text: str
) -> None:
    assert status_text(row(status=status, score=score)) == text
    assert text in text_of(fleet_view([live(1, status, score=score)], NOW))


def test_list_and_watch_have_the_same_header_and_bullets() -> None:
    listed = text_of(listing_table(DEVICES, [row()], NOW)).splitlines()
    watched = text_of(fleet_view([live(1)], NOW)).splitlines()[2:]
    assert set(watched[0].split()) < set(listed[0].split())
    assert "● online" in listed[1]
    assert "● online" in watched[1]


def test_the_live_view_has_the_unseen_last() -> None:
    devices = [live(i, status) for i, status in enumerate(DeviceHealth)]
    rows = text_of(fleet_view(devices, NOW)).splitlines()[3:]
    order = [line.split("●")[1].split()[0] for line in rows]
    assert order == ["offline", "warning", "updating", "online", "unseen"]


@pytest.mark.parametrize("width", [60, 80])
def test_the_totals_keep_the_offline_count(width: int) -> None:
    devices = [live(i, status) for status in DeviceHealth for i in range(1000)]
    line = text_of(fleet_view(devices, NOW, max_rows=3), width).splitlines()[0]
    assert "● 1,000 offline" in line


def test_the_totals_leave_out_zeros_where_there_is_no_room() -> None:
    line = text_of(fleet_view([live(1)], NOW), 60).splitlines()[0]
    assert line.split("  ● ") == ["1 device", "0 offline", "0 warning", "1 online"]
    assert "0 unseen" in text_of(fleet_view([live(1)], NOW), 80).splitlines()[0]


def test_the_live_view_has_a_note_and_no_line_more() -> None:
    with_note = text_of(fleet_view([live(1)], NOW, note="connection lost, reconnecting"))
    without = text_of(fleet_view([live(1)], NOW))
    assert with_note.splitlines()[1] == "connection lost, reconnecting"
    assert len(with_note.splitlines()) == len(without.splitlines())


def test_a_device_page_says_how_far_a_clock_is_off() -> None:
    event = DeviceEvent(
        at=NOW,
        received_at=NOW,
        source="platform",
        kind="device.clock_skew",
        severity=Severity.WARNING,
        message="the device's clock is off by -7205.25 s",
        data={"skew_s": -7205.25, "skewed": True},
    )
    unseen = DeviceDetail(
        device=row(),
        owner="",
        tenant="default",
        lifecycle="active",
        registered_at=NOW,
        info=DeviceInfo(),
        metrics=None,
        connectors=[],
        interval_s=None,
        boot_id=None,
        session=None,
        clock_skewed=True,
        events=[event],
    )
    text = text_of(device_page(unseen, NOW))
    assert "the device's clock is 2 h behind" in text
    assert "clock 2 h behind" in " ".join(text.split())
    assert "7205" not in text
    assert "wrong" in text_of(device_page(msgspec.structs.replace(unseen, events=[]), NOW))


def test_a_device_page_has_all_its_parts() -> None:
    event = DeviceEvent(
        at=NOW,
        received_at=NOW,
        source="device",
        kind="agent.started",
        severity=Severity.INFO,
        message=EVIL,
        data={},
    )
    detail = DeviceDetail(
        device=row(),
        owner="",
        tenant="default",
        lifecycle="active",
        registered_at=NOW,
        info=DeviceInfo(os="Linux", kernel="6.1", addresses=["192.0.2.1"]),
        metrics=Metrics(
            cpu_percent=1,
            ram_percent=2,
            disk_percent=3,
            ram_used_bytes=2**30,
            ram_total_bytes=2**31,
            custom={"battery_v": 3.7},
        ),
        connectors=[Connector(name="modbus", status=ConnectorStatus.FAILED)],
        interval_s=30,
        boot_id="0" * 32,
        session=4,
        clock_skewed=True,
        events=[event],
    )
    text = text_of(device_page(detail, NOW))
    for words in (
        "online, since 2 h",
        "1.0 GiB of 2.0 GiB",
        "battery_v",
        "modbus",
        "failed",
        "agent.started",
        "session 4",
        "clock",
        "Linux 6.1",
    ):
        assert words in text
    assert "owner" not in text
    assert "\x1b" not in text


def test_a_device_that_was_never_seen_has_a_page() -> None:
    unseen = row(status=DeviceHealth.UNSEEN, score=None, last_seen_at=None, addresses=[], tags={})
    detail = DeviceDetail(
        device=unseen,
        owner="",
        tenant="default",
        lifecycle="active",
        registered_at=NOW,
        info=DeviceInfo(),
        metrics=None,
        connectors=[],
        interval_s=None,
        boot_id=None,
        session=None,
        clock_skewed=False,
        events=[],
    )
    assert "never" in text_of(device_page(detail, NOW))


def test_the_status_page() -> None:
    nothing = Usage(mean_percent=None, peak_percent=None)
    process = ProcessRow(
        service="service.ingest",
        role="ingest",
        instance="a",
        state="online",
        pid=7,
        started_at=NOW,
        last_seen_at=NOW,
        version="",
        counters={},
    )
    summary = FleetSummary(
        devices=1234,
        by_status={"online": 1234, "of_a_later_version": 1},
        health_percent=None,
        cpu=Usage(mean_percent=10, peak_percent=99.4),
        ram=nothing,
        disk=nothing,
        heartbeats_stored=1_000_000,
        dead_letters=0,
        first_heartbeat_at=None,
        processes=[process],
    )
    text = text_of(status_page(summary, NOW))
    for words in ("1,234", "of_a_later_version", "mean 10 %, peak 99 %", "service.ingest"):
        assert words in text


def test_a_dead_letter_page_shows_text_or_base64() -> None:
    letter = DeadLetterRow(
        id=3, received_at=NOW, topic="t", reason="invalid_payload", detail=EVIL, size_bytes=1
    )
    encoded = base64.b64encode(b"\xff").decode()
    binary = DeadLetterDetail(
        dead_letter=letter, payload_text="", payload_base64=encoded, truncated=True
    )
    text = text_of(dead_letter_page(binary, NOW))
    assert encoded in text
    assert "only the first part" in text
    assert "\x1b" not in text


def test_the_live_view_has_totals_on_top_and_trouble_first() -> None:
    devices = [live(1), live(2, DeviceHealth.OFFLINE), live(3, DeviceHealth.WARNING), live(4)]
    first, _, _, *rows = text_of(fleet_view(devices, NOW)).splitlines()
    assert " ".join(first.split()) == (
        "4 devices ● 1 offline ● 1 warning ● 0 updating ● 2 online ● 0 unseen"
    )
    assert [line.split()[0] for line in rows] == ["gw-2", "gw-3", "gw-1", "gw-4"]
    assert "3 s ago" in rows[0]


def test_the_live_view_fits_its_room() -> None:
    devices = [live(number) for number in range(50)]
    text = text_of(fleet_view(devices, NOW, max_rows=10))
    assert text.splitlines()[-1] == "… and 40 more"
    assert len(text.splitlines()) == 3 + 10 + 1
    assert "more" not in text_of(fleet_view(devices, NOW, max_rows=50))


def test_the_live_view_of_no_devices() -> None:
    assert text_of(fleet_view([], NOW)).startswith("0 devices")


def test_the_live_view_neutralises() -> None:
    assert "\x1b" not in text_of(fleet_view([live(1, site=EVIL)], NOW))
