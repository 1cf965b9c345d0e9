"""Receipts: which records of a device are in the database, said exactly (docs/adr/0003)."""

from __future__ import annotations

from collections.abc import Iterable

from fleet_core.contract.messages import Receipt

MAX_RANGES = 700
"""So many of the longest numbers still fit the payload limit of the receipts topic."""


def ranges(sequence_numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Inclusive ranges that hold exactly these numbers, ascending.

    >>> ranges([3, 1, 2, 7, 7])
    [(1, 3), (7, 7)]
    """
    result: list[tuple[int, int]] = []
    for number in sorted(set(sequence_numbers)):
        if result and number == result[-1][1] + 1:
            result[-1] = (result[-1][0], number)
        else:
            result.append((number, number))
    return result


def receipts(boot_id: str, sequence_numbers: Iterable[int]) -> list[Receipt]:
    """The receipts for these records of one boot, each within the bounds of the message."""
    pairs = ranges(sequence_numbers)
    return [
        Receipt(boot_id=boot_id, ranges=pairs[start : start + MAX_RANGES])
        for start in range(0, len(pairs), MAX_RANGES)
    ]
