"""Tables for people, through rich. The only module besides `live.py` that imports it at once.

- Every cell is neutralised and never read as markup.
- On a terminal a table fits its width: flexible columns give way first, with an ellipsis. In a file
  or a pipe nothing is cut.
- Colours on a terminal only, and not with NO_COLOR.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from fleet_cli.columns import Column, Listing
from fleet_cli.safe_text import neutralise

UNLIMITED_WIDTH = 4096


def listing_table(listing: Listing, rows: Iterable[Any], now: datetime) -> Table:
    """The rich table of a list."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in listing.columns:
        table.add_column(column.header.upper(), justify=column.justify, no_wrap=not column.flexible)
    for row in rows:
        table.add_row(*(_cell(column, row, now) for column in listing.columns))
    return table


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


def _cell(column: Column, row: Any, now: datetime) -> Text:
    text = safe(column.text(row, now), column.style(row) if column.style else "")
    text.no_wrap, text.overflow = True, "ellipsis"
    return text
