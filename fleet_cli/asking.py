"""One command, one session: from the options of a command to the platform's answer.

The client is imported when something is asked, not when a command is looked up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

import msgspec

from fleet_cli.errors import UsageFailed
from fleet_cli.options import operator_id
from fleet_core.contract.operations import MAX_PAGE, OPERATIONS, Params

if TYPE_CHECKING:
    from fleet_cli.client import OperatorSession
    from fleet_cli.output import RowWriter

DEFAULT_ROWS = 100


class Target(msgspec.Struct, frozen=True):
    """Whom a command talks to, in whose name, and how long it waits for a connection and
    for each answer."""

    url: str
    operator: str
    timeout_s: float

    def session(self) -> AbstractAsyncContextManager[OperatorSession]:
        """A session, not yet open."""
        from fleet_cli.client import operator_session

        return operator_session(self.url, operator_id(self.operator), self.timeout_s)


class Window(msgspec.Struct, frozen=True):
    """The part of a list that is wanted; `limit` None means all of it. `chosen` says that the
    operator named it, so that a cut is no surprise; `page` is the page that was named."""

    limit: int | None
    offset: int
    chosen: bool
    page: int | None = None


def read_window(
    limit: int | None, offset: int | None, page: int | None, *, everything: bool
) -> Window:
    """The window that `--limit`, `--offset`, `--page` and `--all` describe together.

    Raises `UsageFailed` for options that contradict each other.

    >>> read_window(20, None, 3, everything=False)
    Window(limit=20, offset=40, chosen=True, page=3)
    """
    if everything and (limit, offset, page) != (None, None, None):
        raise UsageFailed("--all leaves nothing for --limit, --offset or --page")
    if offset is not None and page is not None:
        raise UsageFailed("--offset and --page say the same in two ways; use one of them")
    if everything:
        return Window(None, 0, True)
    rows = limit or DEFAULT_ROWS
    start = rows * (page - 1) if page else offset or 0
    return Window(rows, start, (limit, offset, page) != (None, None, None), page)


def ask(target: Target, operation: str, params: Params) -> Any:
    """One question, one answer. Raises what `OperatorSession.request` raises."""

    async def exchange() -> Any:
        async with target.session() as session:
            return await session.request(OPERATIONS[operation], params, target.timeout_s)

    return asyncio.run(exchange())


def write_pages(
    target: Target,
    window: Window,
    writer: RowWriter,
    page_of: Callable[[OperatorSession, int, int], Awaitable[tuple[list[Any], int]]],
) -> int:
    """Fetch a list page by page into `writer`; gives how many rows match in all.

    `page_of(session, limit, offset)` gives the rows of one page and that total.
    """

    async def exchange() -> int:
        matching = 0
        async with target.session() as session:
            async for rows, total in _pages(session, window, page_of):
                matching = total
                writer.add(rows)
        return matching

    return asyncio.run(exchange())


async def _pages(
    session: OperatorSession,
    window: Window,
    page_of: Callable[[OperatorSession, int, int], Awaitable[tuple[list[Any], int]]],
) -> AsyncIterator[tuple[list[Any], int]]:
    """Ends at the end of the window, of the list, or at a page that brings nothing."""
    offset, left = window.offset, window.limit
    while left is None or left > 0:
        rows, total = await page_of(session, min(MAX_PAGE, left or MAX_PAGE), offset)
        yield rows, total
        offset += len(rows)
        left = None if left is None else left - len(rows)
        if not rows or offset >= total:
            return
