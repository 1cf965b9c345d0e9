"""A list command from its first page to its last line, and the word about what was left out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from fleet_cli.asking import Target, Window, write_pages
from fleet_cli.formats import OutputFormat
from fleet_cli.output import RowWriter, say
from fleet_core.runtime.clock import now_utc

if TYPE_CHECKING:
    from fleet_cli.client import OperatorSession
    from fleet_cli.columns import Listing


def write_list(
    target: Target,
    window: Window,
    listing: Listing,
    output: OutputFormat,
    page_of: Callable[[OperatorSession, int, int], Awaitable[tuple[list[Any], int]]],
) -> None:
    """Fetch and write the rows of `window`; says on stderr when there are more, or when it begins
    behind the last.

    A program that did not choose its window is told, too: a list cut in silence is a wrong list.
    """
    writer = RowWriter(listing, output)
    total = write_pages(target, window, writer, page_of)
    writer.finish(now_utc(), beyond(window, total) if not writer.count else "")
    shown = writer.count
    if shown + window.offset < total and (output is OutputFormat.TABLE or not window.chosen):
        say(
            f"{shown:,} of {total:,}; --all lists every one, --page the next",
            output,
            code="truncated",
            shown=shown,
            total=total,
        )


def beyond(window: Window, total: int) -> str:
    """What to say of a window without rows; empty where nothing matches at all.

    >>> beyond(Window(limit=100, offset=1900, chosen=True, page=20), 450)
    'page 20 of 5 is empty'
    """
    if not total or not window.limit:
        return ""
    if window.page:
        return f"page {window.page:,} of {-(-total // window.limit):,} is empty"
    return f"there are {total:,}, and none after the first {window.offset:,}"
