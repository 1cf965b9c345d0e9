"""How wide the columns of a table are in the room there is. Pure.

- Nothing is cut where everything fits.
- Then columns shrink, the widest first, but not below their least width; if that is not enough,
  the first of those that may be dropped is left out, and so on.
- In too little room for any of this the shrinking ones give way as far as they have to.
"""

from __future__ import annotations

from collections.abc import Sequence

from fleet_cli.columns import Column

GAP = 2
_LAST_RESORT = 1


def fit(columns: Sequence[Column], natural: Sequence[int], room: int) -> dict[int, int]:
    """The width of each column that is shown, by its index; `natural` is what each would like."""
    dropped: set[int] = set()
    for leaving in (None, *_in_order_of_leaving(columns)):
        if leaving is not None:
            dropped.add(leaving)
        shown = {i: width for i, width in enumerate(natural) if i not in dropped}
        least = {i: min(w, columns[i].least or w) for i, w in shown.items()}
        if _total(least) <= room:
            return _shrunk(shown, least, room)
    return _shrunk(
        shown, {i: _LAST_RESORT if columns[i].least else w for i, w in shown.items()}, room
    )


def _in_order_of_leaving(columns: Sequence[Column]) -> list[int]:
    ranked = [(column.drop, i) for i, column in enumerate(columns) if column.drop is not None]
    return [i for _, i in sorted(ranked)]


def _total(widths: dict[int, int]) -> int:
    return sum(widths.values()) + GAP * (len(widths) - 1)


def _shrunk(widths: dict[int, int], least: dict[int, int], room: int) -> dict[int, int]:
    """One cell at a time from the column with most to give: bounded by the room it is cut from."""
    shrunk = dict(widths)
    excess = _total(shrunk) - room
    while excess > 0:
        widest = max(shrunk, key=lambda i: shrunk[i] if shrunk[i] > least[i] else 0)
        if shrunk[widest] <= least[widest]:
            return shrunk
        shrunk[widest] -= 1
        excess -= 1
    return shrunk
