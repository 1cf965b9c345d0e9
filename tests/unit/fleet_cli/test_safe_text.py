"""Text from devices in front of a terminal, a spreadsheet and a parser."""

from __future__ import annotations

import json

import pytest

from fleet_cli.safe_text import csv_cell, escape_json, neutralise

EVIL = [
    "\x1b[2J",
    "\x9b31m",
    "a\r\nb",
    "\x07",
    "\x00",
    "\x7f",
    "‮gnp.exe",  # noqa: PLE2502 (the case)
    "\u2028",
    "\u200b",
    "\ud800",
]


@pytest.mark.parametrize("text", EVIL)
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    shown = neutralise(text)
    assert shown.isprintable()
    assert shown != text


@pytest.mark.parametrize("text", ["Köln", "東京", "a b", "50 % ✓", "back\\slash", ""])
def test_harmless_text_stays(text: str) -> None:
    assert neutralise(text) == text


@pytest.mark.parametrize("text", [e for e in EVIL if e != "\ud800"])
def test_json_keeps_its_value_and_loses_its_teeth(text: str) -> None:
    written = escape_json(json.dumps(text, ensure_ascii=False))
    assert json.loads(written) == text
    assert written.isprintable()


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d"])
def test_a_formula_becomes_text(first: str) -> None:
    assert csv_cell(f"{first}cmd|' /C calc'!A0").startswith("'")


def test_a_cell_stays_on_its_line() -> None:
    assert csv_cell("one\r\ntwo") == r"one\r\ntwo"
