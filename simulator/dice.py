"""The one place that makes a source of chance; the same words give the same dice."""

from __future__ import annotations

import random


def dice(seed: int, *words: str) -> random.Random:
    """A source of chance for one purpose, so that no purpose disturbs another."""
    return random.Random(":".join([str(seed), *words]))  # noqa: S311 (a simulation, no secret)
