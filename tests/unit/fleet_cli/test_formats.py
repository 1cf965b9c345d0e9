"""Each machine format, the empty list, and what devices may have put into their fields."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from fleet_cli.formats import (
    OutputFormat,
    default_format,
    document_text,
    header,
    names_text,
    rows_text,
)
from fleet_cli.yaml_text import to_yaml

FIELDS = ("device_id", "name", "score", "tags", "ok")
ROW: dict[str, Any] = {
    "device_id": "gw-1",
    "name": '=HYPERLINK("x")\r\n\x1b[31m',
    "score": -5,
    "tags": {"env": "lab"},
    "ok": None,
}


def text_of(output: OutputFormat, *rows: dict[str, Any]) -> str:
    return header(output, FIELDS) + rows_text(output, rows, FIELDS, "device_id")


def test_a_terminal_gets_a_table_and_a_pipe_json() -> None:
    assert default_format(stdout_is_terminal=True) is OutputFormat.TABLE
    assert default_format(stdout_is_terminal=False) is OutputFormat.JSON


@pytest.mark.parametrize(
    ("output", "text"),
    [
        (OutputFormat.JSON, "[]\n"),
        (OutputFormat.YAML, "[]\n"),
        (OutputFormat.JSONL, ""),
        (OutputFormat.NAME, ""),
        (OutputFormat.CSV, "device_id,name,score,tags,ok\n"),
    ],
)
def test_an_empty_list(output: OutputFormat, text: str) -> None:
    assert text_of(output) == text


def test_json_is_the_rows() -> None:
    assert json.loads(text_of(OutputFormat.JSON, ROW, ROW)) == [ROW, ROW]


def test_json_lines_are_a_row_each() -> None:
    lines = text_of(OutputFormat.JSONL, ROW, ROW).splitlines()
    assert [json.loads(line) for line in lines] == [ROW, ROW]


def test_names_are_a_line_each() -> None:
    assert text_of(OutputFormat.NAME, ROW, ROW) == "gw-1\ngw-1\n"
    assert names_text(["a\nb"]) == "a\\nb\n"


def test_csv_is_a_line_a_row_and_computes_nothing() -> None:
    text = text_of(OutputFormat.CSV, ROW)
    assert text.count("\n") == 2
    assert "\x1b" not in text
    row = next(csv.DictReader(io.StringIO(text)))
    assert row == {
        "device_id": "gw-1",
        "name": '\'=HYPERLINK("x")\\r\\n\\x1b[31m',
        "score": "-5",
        "tags": '{"env":"lab"}',
        "ok": "",
    }


def test_a_document_in_csv_is_one_row_with_dots() -> None:
    text = document_text(OutputFormat.CSV, {"a": {"b": 1, "c": {}}, "d": [1, 2], "e": True}, [])
    assert list(csv.reader(io.StringIO(text))) == [
        ["a.b", "a.c", "d", "e"],
        ["1", "{}", "[1,2]", "true"],
    ]


@pytest.mark.parametrize("output", [OutputFormat.JSON, OutputFormat.JSONL, OutputFormat.YAML])
def test_a_document_keeps_its_values(output: OutputFormat) -> None:
    yaml = pytest.importorskip("yaml")
    assert yaml.safe_load(document_text(output, ROW, ["gw-1"])) == ROW


def test_a_document_by_name() -> None:
    assert document_text(OutputFormat.NAME, ROW, ["gw-1"]) == "gw-1\n"


@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        None,
        "",
        "no",
        "2030-01-01",
        "1e3",
        "~",
        "# not a comment",
        "two\nlines",
        "\x1b\x9b\u202e",
        1e16,
        1.5,
        -0.0,
        2**63,
        True,
        {"on": {"yes": None}, "a b": ["x", ["y", []], {"z": {}, "w": [1]}], "null": "null"},
        [[["deep"]], [{"a": [{"b": 1}, {"c": 2}]}]],
    ],
)
def test_yaml_says_what_it_was_given(value: Any) -> None:
    yaml = pytest.importorskip("yaml")
    text = to_yaml(value)
    assert yaml.safe_load(text) == value
    assert text.replace("\n", "").isprintable()
