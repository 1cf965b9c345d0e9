"""The health score: 100 less penalties, never below 0 (design §5).

- Usage in percent; the bounds of a middle band belong to it: 70 and 90 percent CPU cost the same.
- Connectors cost a penalty times the fraction that is not running; no connectors cost nothing.
- The score is rounded down, so that a device never looks better than it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from fleet_core.contract.messages import Connector, ConnectorStatus, Metrics

FULL_SCORE = 100


class Band(msgspec.Struct, frozen=True, gc=False):
    """Penalties for one kind of usage. `middle_percent` and `above_percent` bound the band."""

    middle_percent: float
    above_percent: float
    middle_penalty: float
    above_penalty: float

    def penalty(self, percent: float) -> float:
        """What a usage of `percent` costs.

        >>> [Band(70, 90, 15, 30).penalty(p) for p in (69.9, 70, 90, 90.1)]
        [0, 15, 15, 30]
        """
        if percent > self.above_percent:
            return self.above_penalty
        return self.middle_penalty if percent >= self.middle_percent else 0


class Thresholds(msgspec.Struct, frozen=True, gc=False):
    """Everything the score depends on. The defaults are the published table."""

    cpu: Band = Band(70, 90, 15, 30)
    ram: Band = Band(75, 90, 10, 25)
    disk: Band = Band(80, 90, 10, 25)
    connectors_penalty: float = 20


def running(connectors: Sequence[Connector]) -> int:
    """How many connectors are running."""
    return len([c for c in connectors if c.status is ConnectorStatus.RUNNING])


def score(metrics: Metrics, connectors: Sequence[Connector], thresholds: Thresholds) -> int:
    """The health score of one sample, 0 to 100."""
    penalty = (
        thresholds.cpu.penalty(metrics.cpu_percent)
        + thresholds.ram.penalty(metrics.ram_percent)
        + thresholds.disk.penalty(metrics.disk_percent)
    )
    if connectors:
        not_running = len(connectors) - running(connectors)
        penalty += thresholds.connectors_penalty * not_running / len(connectors)
    return max(0, math.floor(FULL_SCORE - penalty))
