"""The machine formats: plain values to text. Pure; tables for people are in `tables.py`.

- A list is rows of one known set of fields, so that an empty one still has a CSV header.
- JSON is an array or an object; JSON lines, CSV and `name` are written row by row.
- A document in CSV is one row, its nested fields named with dots.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any

import msgspec

from fleet_cli.safe_text import csv_cell, escape_json, neutralise
from fleet_cli.yaml_text import to_yaml

Row = dict[str, Any]


class OutputFormat(StrEnum):
    """What `-o` takes."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    YAML = "yaml"
    CSV = "csv"
    NAME = "name"


STREAMED = frozenset({OutputFormat.JSONL, OutputFormat.CSV, OutputFormat.NAME})
"""Formats that are written row by row and need no whole."""


def default_format(*, stdout_is_terminal: bool) -> OutputFormat:
    """A table for people, JSON for programs."""
    return OutputFormat.TABLE if stdout_is_terminal else OutputFormat.JSON


def header(output: OutputFormat, fields: Sequence[str]) -> str:
    """What comes before the first row; empty except in CSV."""
    return _csv_lines([fields]) if output is OutputFormat.CSV else ""


def rows_text(
    output: OutputFormat, rows: Sequence[Row], fields: Sequence[str], name_field: str
) -> str:
    """`rows` without a header. Not for tables."""
    match output:
        case OutputFormat.JSONL:
            return "".join(f"{_compact(row)}\n" for row in rows)
        case OutputFormat.CSV:
            return _csv_lines([_cell(row.get(field)) for field in fields] for row in rows)
        case OutputFormat.NAME:
            return names_text(row[name_field] for row in rows)
        case OutputFormat.YAML:
            return to_yaml(list(rows))
        case _:
            return _indented(list(rows))


def document_text(output: OutputFormat, document: Row, names: Iterable[str]) -> str:
    """One document. Not for tables; `names` is what the `name` format prints."""
    match output:
        case OutputFormat.JSONL:
            return f"{_compact(document)}\n"
        case OutputFormat.CSV:
            flat = _flat(document)
            return _csv_lines([list(flat), [_cell(value) for value in flat.values()]])
        case OutputFormat.NAME:
            return names_text(names)
        case OutputFormat.YAML:
            return to_yaml(document)
        case _:
            return _indented(document)


def names_text(names: Iterable[str]) -> str:
    """One name a line."""
    return "".join(f"{neutralise(str(name))}\n" for name in names)


def _compact(value: Any) -> str:
    return escape_json(msgspec.json.encode(value).decode())


def _indented(value: Any) -> str:
    return escape_json(msgspec.json.format(msgspec.json.encode(value), indent=2).decode()) + "\n"


def _flat(document: Row, prefix: str = "") -> Row:
    flat: Row = {}
    for key, value in document.items():
        if isinstance(value, dict) and value:
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case str():
            return csv_cell(value)
        case _:
            return csv_cell(_compact(value))


def _csv_lines(lines: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()
