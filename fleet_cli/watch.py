"""`fleet device watch`: a live table on a terminal, a stream of rows elsewhere.

A stream has a row for each change of a device that matches, and one with `left` true when it left
the tenant or what is selected.
JSON is written as JSON lines, YAML as an ever-growing sequence: a stream has no end to wait for.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Coroutine
from contextlib import aclosing
from typing import Any

import msgspec

from fleet_cli.asking import Target
from fleet_cli.errors import BrokerUnreachable, NoAnswer
from fleet_cli.follow import Change, DeviceLeft, LiveFleet
from fleet_cli.formats import OutputFormat, Row, header, rows_text
from fleet_cli.lasting import LOST, Link, follow_on, new_backoff
from fleet_cli.output import say, write
from fleet_cli.plain import to_plain
from fleet_core.contract.messages import DeviceHealth, LiveDevice
from fleet_core.contract.operations import MAX_PAGE, OPERATIONS, DeviceList, DevicePage
from fleet_core.runtime.clock import now_utc

REDRAW_INTERVAL_S = 0.5
REFRESH_INTERVAL_S = 5.0
MAX_QUESTIONS = 20
"""More ids than this are refreshed by one page of the whole selection."""
FIELDS = (*LiveDevice.__struct_fields__, "left")


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which devices are watched; an empty set means any. `text` is searched in id and name."""

    ids: frozenset[str] = frozenset()
    statuses: frozenset[DeviceHealth] = frozenset()
    sites: frozenset[str] = frozenset()
    tags: dict[str, str] = {}
    text: str = ""

    def matches(self, device: LiveDevice) -> bool:
        """Whether the device is one of them."""
        return (
            (not self.ids or device.device_id in self.ids)
            and (not self.statuses or device.status in self.statuses)
            and (not self.sites or device.site in self.sites)
            and self.tags.items() <= device.tags.items()
            and self.text.casefold() in f"{device.device_id}\n{device.name}".casefold()
        )


def watch_devices(
    target: Target, selection: Selection, for_s: float | None, output: OutputFormat
) -> None:
    """Watch until `for_s` seconds have passed, or without end. Raises `BrokerUnreachable` when
    there was no connection by then: a fleet that nobody heard of is not an empty one."""
    streamed = output is not OutputFormat.TABLE
    link = Link((lambda: say(LOST, output, code="connection_lost")) if streamed else None)
    if streamed:
        work = _stream(target, selection, link, output)
    elif sys.stdout.isatty():
        work = _draw(target, selection, link)
    else:
        work = _draw_once(target, selection, link)
    asyncio.run(_until(work, for_s))
    if not link.ever:
        raise BrokerUnreachable(f"there was no connection to {target.url} within {for_s:g} s")


def selected(change: Change, selection: Selection) -> Change:
    """The change as the selection sees it: a device that matches no longer has left."""
    if isinstance(change, DeviceLeft) or selection.matches(change):
        return change
    return DeviceLeft(change.device_id)


def stream_row(change: Change, before: LiveDevice | None, selection: Selection) -> Row | None:
    """What a stream says about one change; None for what was and is not selected, and for what
    was said before: after a lost connection every device is told anew."""
    if isinstance(change, LiveDevice) and selection.matches(change):
        return None if change == before else {**to_plain(change), "left": False}
    if before is None:
        return None
    return {**to_plain(before if isinstance(change, DeviceLeft) else change), "left": True}


async def _until(work: Coroutine[Any, Any, None], for_s: float | None) -> None:
    deadline = asyncio.timeout(for_s)
    try:
        async with deadline:
            await work
    except TimeoutError:
        if not deadline.expired():
            raise


async def _stream(target: Target, selection: Selection, link: Link, output: OutputFormat) -> None:
    output = OutputFormat.JSONL if output is OutputFormat.JSON else output
    fleet = LiveFleet()
    write(header(output, FIELDS))
    async with aclosing(follow_on(target, link)) as changes:
        async for change in changes:
            before = fleet.apply(selected(change, selection))
            row = stream_row(change, before, selection)
            if row is not None:
                write(rows_text(output, [row], FIELDS, "device_id"))


async def _keep(target: Target, selection: Selection, link: Link, fleet: LiveFleet) -> None:
    async with aclosing(follow_on(target, link)) as changes:
        async for change in changes:
            fleet.apply(selected(change, selection))


async def _refresh(target: Target, selection: Selection, fleet: LiveFleet) -> None:
    """What a live topic does not tell: it speaks on change, a heartbeat comes all the time. Whether
    there is a broker at all is for `_keep` to say."""
    backoff = new_backoff()
    while True:
        with contextlib.suppress(BrokerUnreachable):
            async with target.session() as session:
                backoff.reset()
                while True:
                    for params in questions(selection):
                        # the live topics go on without the operator role
                        with contextlib.suppress(NoAnswer):
                            page: DevicePage = await session.request(
                                OPERATIONS["device.list"], params, timeout_s=target.timeout_s
                            )
                            fleet.refresh(page.devices)
                    await asyncio.sleep(REFRESH_INTERVAL_S)
        await asyncio.sleep(backoff.next_s())


def questions(selection: Selection) -> list[DeviceList]:
    """What to ask for: one page of what is selected, or one for each of a few ids."""
    few = 0 < len(selection.ids) <= MAX_QUESTIONS
    return [
        DeviceList(
            status=sorted(selection.statuses),
            site=sorted(selection.sites),
            tags=selection.tags,
            text=text,
            limit=MAX_PAGE,
        )
        for text in (sorted(selection.ids) if few else [selection.text])
    ]


async def _draw_once(target: Target, selection: Selection, link: Link) -> None:
    """A table in a file: the picture at the end, if there is one."""
    from fleet_cli.live import fleet_view
    from fleet_cli.tables import rendered

    fleet = LiveFleet()
    try:
        await _keep(target, selection, link, fleet)
    finally:
        if link.ever:
            note = LOST if link.lost else ""
            write(rendered(fleet_view(fleet.devices(), now_utc(), note=note)))


async def _draw(target: Target, selection: Selection, link: Link) -> None:
    from rich.live import Live

    from fleet_cli.live import FRAME_LINES, fleet_view
    from fleet_cli.tables import make_console

    fleet = LiveFleet()
    console = make_console()
    workers = [
        asyncio.create_task(_keep(target, selection, link, fleet)),
        asyncio.create_task(_refresh(target, selection, fleet)),
    ]
    try:
        with Live(console=console, auto_refresh=False) as live:
            while not any(worker.done() for worker in workers):
                if link.ever:  # before, nobody knows whether the fleet is empty
                    note = LOST if link.lost else ""
                    room = console.size.height - FRAME_LINES
                    view = fleet_view(fleet.devices(), now_utc(), max_rows=room, note=note)
                    live.update(view, refresh=True)
                await asyncio.wait(
                    workers, timeout=REDRAW_INTERVAL_S, return_when=asyncio.FIRST_COMPLETED
                )
        for worker in workers:
            if worker.done():
                await worker
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.wait(workers)
