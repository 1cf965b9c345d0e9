"""Columns in the room there is, and texts in their cells."""

from __future__ import annotations

from typing import Any

import pytest

from fleet_cli import cropping
from fleet_cli.columns import Column
from fleet_cli.fitting import GAP, fit

COLUMNS = (
    Column("id", lambda _row, _now: "", least=12),
    Column("status", lambda _row, _now: ""),
    Column("tags", lambda _row, _now: "", least=10, drop=1),
    Column("conn", lambda _row, _now: "", drop=2),
)


@pytest.mark.parametrize(
    ("room", "widths"),
    [
        (121, {0: 63, 1: 8, 2: 40, 3: 4}),
        (40, {0: 12, 1: 8, 2: 10, 3: 4}),
        (39, {0: 23, 1: 8, 3: 4}),
        (27, {0: 17, 1: 8}),
        (22, {0: 12, 1: 8}),
        (15, {0: 5, 1: 8}),
        (5, {0: 1, 1: 8}),
    ],
)
def test_columns_shrink_then_leave_then_give_way(room: int, widths: dict[int, int]) -> None:
    assert fit(COLUMNS, (63, 8, 40, 4), room) == widths


def test_what_fits_is_left_alone() -> None:
    assert fit(COLUMNS, (7, 8, 9, 4), 28 + 3 * GAP) == {0: 7, 1: 8, 2: 9, 3: 4}


@pytest.mark.parametrize("crop", [cropping.end, cropping.middle, cropping.topic])
@pytest.mark.parametrize(
    "text",
    ["", "gw-1", "gateway-berlin-0017", "東京" * 30, "a/b/c/d/e", "////", "a/b/c/" + "d" * 70],
)
def test_a_cropped_text_is_never_too_wide(crop: Any, text: str) -> None:
    for width in range(1, 80):
        cropped = crop(text, width)
        assert cropping.width_of(cropped) <= width
        if cropping.width_of(text) <= width:
            assert cropped == text


def test_both_ends_of_an_id_stay() -> None:
    assert cropping.middle("gateway-berlin-0017", 11) == "gatew…-0017"
