"""Receipts on their way to devices."""

from __future__ import annotations

from collections.abc import Mapping

from fleet_core.contract.publication import Publication, publication
from fleet_core.contract.topics import DEVICE_RECEIPTS
from fleet_core.rules.receipts import receipts

Owed = dict[tuple[str, str], list[int]]
"""Sequence numbers by device and boot."""


def publications(owed: Mapping[tuple[str, str], list[int]]) -> list[Publication]:
    """The messages that tell devices what is in the database."""
    return [
        publication(DEVICE_RECEIPTS, device_id, receipt)
        for (device_id, boot_id), sequence_numbers in owed.items()
        for receipt in receipts(boot_id, sequence_numbers)
    ]
