"""Where a command's words go: data to stdout, everything else to stderr.

- A reader that closes the pipe ends the command quietly (`ReaderGone`).
- Rows may come in pages. What can be written row by row is written at once; a table, JSON and YAML
  need the whole and are collected, up to `MAX_COLLECTED_ROWS`.
- Notes are a line for people, and one JSON object a line where the output is for programs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

import msgspec

from fleet_cli.errors import CommandFailed, ReaderGone, UsageFailed
from fleet_cli.formats import (
    STREAMED,
    OutputFormat,
    Row,
    default_format,
    document_text,
    header,
    rows_text,
)
from fleet_cli.plain import to_plain
from fleet_cli.safe_text import escape_json, neutralise

if TYPE_CHECKING:
    from datetime import datetime

    from rich.console import RenderableType

    from fleet_cli.columns import Listing

MAX_COLLECTED_ROWS = 100_000


def resolve(chosen: OutputFormat | None) -> OutputFormat:
    """The format of this run: what `-o` says, else by whether stdout is a terminal."""
    return chosen or default_format(stdout_is_terminal=sys.stdout.isatty())


def write(text: str) -> None:
    """Write to stdout and flush. Raises `ReaderGone` once nobody reads it."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError as error:
        _point_to_nowhere(sys.stdout)
        raise ReaderGone from error


def say(message: str, output: OutputFormat, *, code: str = "note", **details: Any) -> None:
    """A note on stderr: a line on a terminal, a JSON object where the output is for programs."""
    if output is OutputFormat.TABLE:
        _write_error(f"{neutralise(message)}\n")
    else:
        _write_error(_json_line({"code": code, "message": message, "details": details}))


def fail(error: CommandFailed, output: OutputFormat) -> None:
    """Write the one error envelope, or a readable line with its hint."""
    if output is not OutputFormat.TABLE:
        _write_error(_json_line(error.envelope()))
        return
    _write_error(f"{_red('error:')} {neutralise(error.message)}\n")
    if error.hint:
        _write_error(f"hint: {neutralise(error.hint)}\n")


class RowWriter:
    """Writes the rows of one list, page by page. Call `add` for each page and `finish` once."""

    def __init__(self, listing: Listing, output: OutputFormat) -> None:
        self._listing = listing
        self._output = output
        self._collected: list[Any] = []
        self._written = 0
        self._began = False

    @property
    def count(self) -> int:
        """Rows taken so far."""
        return self._written + len(self._collected)

    def add(self, rows: Sequence[Any]) -> None:
        """Take one page of structs. Raises `UsageFailed` for more than can be collected."""
        if self._output in STREAMED:
            self._stream(rows)
            return
        if len(self._collected) + len(rows) > MAX_COLLECTED_ROWS:
            raise UsageFailed(
                f"-o {self._output.value} holds at most {MAX_COLLECTED_ROWS:,} rows",
                "use -o jsonl or -o csv, which are written row by row",
            )
        self._collected.extend(rows)

    def finish(self, now: datetime, nothing: str = "") -> None:
        """Write what was collected; of an empty list `[]`, a header, or a note. `nothing` says why
        there is nothing, if not because nothing matches."""
        if self._output in STREAMED:
            self._stream(())
        elif self._output is not OutputFormat.TABLE:
            write(self._text(self._collected))
        elif self._collected:
            from fleet_cli.tables import listing_text

            write(listing_text(self._listing, self._collected, now))
        if not self.count and (nothing or self._output is OutputFormat.TABLE):
            say(nothing or self._listing.empty, self._output)

    def _stream(self, rows: Sequence[Any]) -> None:
        first = "" if self._began else header(self._output, self._listing.fields)
        self._began = True
        self._written += len(rows)
        text = first + self._text(rows)
        if text:
            write(text)

    def _text(self, rows: Sequence[Any]) -> str:
        plain: list[Row] = [to_plain(row) for row in rows]
        return rows_text(self._output, plain, self._listing.fields, self._listing.name_field)


def write_document(
    document: Any,
    output: OutputFormat,
    *,
    names: Iterable[str],
    table: Callable[[], RenderableType],
    last_line: str = "",
) -> None:
    """Write one struct or plain document; `table` builds what a terminal shows. `last_line` comes
    after it as it is, whatever the width: it is there to be copied."""
    if output is OutputFormat.TABLE:
        from fleet_cli.tables import rendered

        write(rendered(table()) + (f"{neutralise(last_line)}\n" if last_line else ""))
    else:
        write(document_text(output, to_plain(document), names))


def _json_line(value: Any) -> str:
    return escape_json(msgspec.json.encode(value, enc_hook=str).decode()) + "\n"


def _red(word: str) -> str:
    coloured = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    return f"\x1b[31m{word}\x1b[0m" if coloured else word


def _write_error(text: str) -> None:
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except BrokenPipeError:  # nobody listens: the exit code still tells
        _point_to_nowhere(sys.stderr)


def _point_to_nowhere(stream: TextIO) -> None:
    """So that the interpreter's last flush does not complain a second time."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
