"""Receipts say exactly what is stored, and always fit their topic."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from fleet_core.contract.codec import decode, encode
from fleet_core.contract.messages import MAX_BIGINT
from fleet_core.contract.topics import DEVICE_RECEIPTS
from fleet_core.rules.receipts import MAX_RANGES, ranges, receipts
from tests.fixtures.store import BOOT_A


@given(st.lists(st.integers(1, 60) | st.integers(1, MAX_BIGINT)))
def test_ranges_hold_exactly_the_numbers(numbers: list[int]) -> None:
    result = ranges(numbers)
    covered = {n for first, last in result if last - first < 100 for n in range(first, last + 1)}
    assert covered == set(numbers)
    assert result == sorted(result)
    assert all(before[1] + 1 < after[0] for before, after in pairwise(result))


def test_nothing_stored_is_no_receipt() -> None:
    assert receipts(BOOT_A, []) == []


def test_ranges_at_the_limit_are_one_receipt_and_one_more_is_two() -> None:
    assert len(receipts(BOOT_A, range(1, 2 * MAX_RANGES, 2))) == 1
    full, rest = receipts(BOOT_A, range(1, 2 * MAX_RANGES + 2, 2))
    assert (len(full.ranges), rest.ranges) == (MAX_RANGES, [(2 * MAX_RANGES + 1,) * 2])


def test_a_full_receipt_of_the_largest_numbers_fits_the_payload_limit() -> None:
    """With 1000 ranges it did not: the device refused it and sent the records for ever."""
    numbers = range(MAX_BIGINT - 4 * MAX_RANGES, MAX_BIGINT + 1, 2)
    found = receipts(BOOT_A, numbers)
    for receipt in found:
        assert decode(DEVICE_RECEIPTS, encode(receipt)) == receipt
    assert [n for r in found for n, _ in r.ranges] == list(numbers)
