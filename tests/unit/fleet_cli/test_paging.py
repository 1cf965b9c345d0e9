"""What is said of a page that has nothing on it."""

from __future__ import annotations

import pytest

from fleet_cli.asking import Window, read_window
from fleet_cli.paging import beyond


@pytest.mark.parametrize(
    ("window", "total", "words"),
    [
        (read_window(None, None, 20, everything=False), 450, "page 20 of 5 is empty"),
        (read_window(50, None, 10, everything=False), 450, "page 10 of 9 is empty"),
        (read_window(10, 500, None, everything=False), 450, "none after the first 500"),
        (read_window(None, None, 2, everything=False), 0, ""),
        (read_window(None, None, None, everything=True), 5, ""),
    ],
)
def test_a_page_behind_the_last_says_so(window: Window, total: int, words: str) -> None:
    said = beyond(window, total)
    assert words in said
    assert bool(words) == bool(said)
