"""Tables for people, through rich. The only module besides `live.py` that imports it at once.

- Every cell is neutralised and never read as markup.
- On a terminal a table fits its width (`fitting.py`). In a file or a pipe nothing is cut.
- Colours on a terminal only, and not with NO_COLOR.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from fleet_cli import cropping
from fleet_cli.columns import Column, Listing
from fleet_cli.fitting import GAP, fit
from fleet_cli.safe_text import neutralise

UNLIMITED_WIDTH = 4096


class ListingTable:
    """The table of a list; how wide its columns are is decided where it is drawn."""

    def __init__(self, listing: Listing, rows: Iterable[Any], now: datetime) -> None:
        self._columns = listing.columns
        self._cells = [
            [
                Text(neutralise(column.text(row, now)), column.style(row) if column.style else "")
                for column in listing.columns
            ]
            for row in rows
        ]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table as wide as `options` allow."""
        natural = [
            max(len(column.header), *(row[i].cell_len for row in self._cells), 0)
            for i, column in enumerate(self._columns)
        ]
        widths = fit(self._columns, natural, options.max_width)
        table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
        for i, width in widths.items():
            column = self._columns[i]
            heading_text = cropping.end(column.header.upper(), width)
            table.add_column(heading_text, justify=column.justify, width=width, no_wrap=True)
        for row in self._cells:
            table.add_row(*(_cropped(row[i], self._columns[i], w) for i, w in widths.items()))
        yield table


def listing_table(listing: Listing, rows: Iterable[Any], now: datetime) -> ListingTable:
    """The table of a list for a console."""
    return ListingTable(listing, rows, now)


def listing_text(listing: Listing, rows: Sequence[Any], now: datetime) -> str:
    """The table of a list as text for stdout."""
    return rendered(listing_table(listing, rows, now))


def facts(pairs: Iterable[tuple[str, str]]) -> Table:
    """Two columns, words and values; pairs without a value are left out."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for word, value in pairs:
        if value:
            table.add_row(safe(word), safe(value))
    return table


def safe(text: str, style: str = "") -> Text:
    """Neutralised text that rich takes literally."""
    return Text(neutralise(text), style=style)


def heading(text: str) -> Text:
    """The title of a part of a page."""
    return Text(f"\n{text}", style="bold underline")


def rendered(renderable: RenderableType) -> str:
    """What stdout gets: with colours and cut to width on a terminal, plain and whole elsewhere."""
    console = make_console()
    with console.capture() as capture:
        console.print(renderable)
    lines = capture.get().splitlines()
    return "".join(f"{line.rstrip()}\n" for line in lines)


def make_console() -> Console:
    """A console on stdout that obeys nothing but the terminal and NO_COLOR."""
    if sys.stdout.isatty():
        return Console(file=sys.stdout, markup=False, highlight=False, emoji=False)
    return plain_console(UNLIMITED_WIDTH)


def plain_console(width: int) -> Console:
    """A console without colours, for files and tests."""
    return Console(
        file=io.StringIO(),
        width=width,
        force_terminal=False,
        color_system=None,
        markup=False,
        highlight=False,
        emoji=False,
    )


def _cropped(text: Text, column: Column, width: int) -> Text:
    return Text(column.crop(text.plain, width), text.style, no_wrap=True, overflow="ellipsis")
