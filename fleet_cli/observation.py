"""What `fleet demo` sees of the fleet it runs: a live picture, and numbers for its last line.

The picture follows the tenant's topics, which speak on change only; what changes with every
heartbeat (last seen, metrics) is asked for once a second, and so are the numbers.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime

import msgspec
import psutil
from rich.live import Live

from fleet_cli.client import OperatorSession, operator_session
from fleet_cli.follow import LiveFleet
from fleet_cli.live import FRAME_LINES, fleet_view
from fleet_cli.tables import make_console
from fleet_core.contract.messages import DeviceHealth
from fleet_core.contract.operations import (
    MAX_PAGE,
    OPERATIONS,
    DeviceList,
    DevicePage,
    FleetStatus,
    FleetSummary,
)
from fleet_core.runtime.clock import now_utc

INTERVAL_S = 1.0
_MEGABYTE = 1_000_000


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """How a demo went. `rss_mb` adds the resident memory of all processes at its highest, and
    counts memory they share once for each; `pss_mb` counts it once, where the system tells."""

    wanted: int
    devices: int
    online: int
    warning: int
    offline: int
    updating: int
    unseen: int
    heartbeats_stored: int
    dead_letters: int
    seconds_to_first_heartbeat: float | None
    rss_mb: float
    pss_mb: float | None

    def sentence(self) -> str:
        """The same in words."""
        first = self.seconds_to_first_heartbeat
        return (
            f"{self.devices - self.unseen} of {self.wanted} devices were seen, "
            f"{self.heartbeats_stored:,} heartbeats stored, {self.dead_letters:,} dead letters"
            + (f", the first heartbeat after {first:.1f} s" if first is not None else "")
        )


class Observation:
    """The latest numbers, and the picture."""

    def __init__(self, wanted: int) -> None:
        self.fleet = LiveFleet()
        self._wanted = wanted
        self._summary: FleetSummary | None = None
        self._rss_bytes = 0
        self._pss_bytes: int | None = None

    def take(self, summary: FleetSummary) -> None:
        """Keep the platform's numbers, and measure the processes."""
        self._summary = summary
        rss_bytes, pss_bytes = _memory()
        self._rss_bytes = max(self._rss_bytes, rss_bytes)
        if pss_bytes is not None:
            self._pss_bytes = max(self._pss_bytes or 0, pss_bytes)

    def report(self) -> Report:
        """The numbers so far; before there are any, those of a fleet nobody has seen."""
        summary = self._summary
        by_status = summary.by_status if summary else {}
        return Report(
            wanted=self._wanted,
            devices=summary.devices if summary else 0,
            **{status.value: by_status.get(status.value, 0) for status in DeviceHealth},
            heartbeats_stored=summary.heartbeats_stored if summary else 0,
            dead_letters=summary.dead_letters if summary else 0,
            seconds_to_first_heartbeat=_since_start(
                summary.first_heartbeat_at if summary else None
            ),
            rss_mb=round(self._rss_bytes / _MEGABYTE, 1),
            pss_mb=None if self._pss_bytes is None else round(self._pss_bytes / _MEGABYTE, 1),
        )


async def observe(url: str, operator: str, observation: Observation, *, drawn: bool) -> None:
    """Look once a second, without end; `drawn` also shows the picture on the terminal.

    Raises what `OperatorSession.request` raises.
    """
    async with operator_session(url, operator) as session:
        if not drawn:
            await _count(session, observation)
            return
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_count(session, observation))
                group.create_task(_follow(session, observation))
                group.create_task(_draw(session, observation))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None


async def _count(session: OperatorSession, observation: Observation) -> None:
    async for _ in _ticks():
        observation.take(await session.request(OPERATIONS["fleet.status"], FleetStatus()))


async def _follow(session: OperatorSession, observation: Observation) -> None:
    async with aclosing(session.follow()) as changes:
        async for change in changes:
            observation.fleet.apply(change)


async def _draw(session: OperatorSession, observation: Observation) -> None:
    console = make_console()
    with Live(console=console, auto_refresh=False) as live:
        async for _ in _ticks():
            params = DeviceList(limit=MAX_PAGE)
            page: DevicePage = await session.request(OPERATIONS["device.list"], params)
            observation.fleet.refresh(page.devices)
            room = console.size.height - FRAME_LINES
            view = fleet_view(observation.fleet.devices(), now_utc(), max_rows=room)
            live.update(view, refresh=True)


async def _ticks() -> AsyncIterator[None]:
    """Now, and once a second from now on."""
    while True:
        yield
        await asyncio.sleep(INTERVAL_S)


def _since_start(moment: datetime | None) -> float | None:
    """Seconds from the start of this process; None for never, and for what was before it."""
    if moment is None:
        return None
    started_at = datetime.fromtimestamp(psutil.Process().create_time(), UTC)
    seconds = (moment - started_at).total_seconds()
    return round(seconds, 2) if seconds >= 0 else None


def _memory() -> tuple[int, int | None]:
    """Resident and proportional bytes of this process and all below it."""
    this = psutil.Process()
    rss_bytes, pss_bytes = 0, 0
    for process in (this, *this.children(recursive=True)):
        with contextlib.suppress(psutil.Error):  # it ended while we looked
            memory = process.memory_full_info()
            rss_bytes += memory.rss
            pss_bytes += getattr(memory, "pss", 0)
    return rss_bytes, pss_bytes or None
