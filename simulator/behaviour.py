"""What simulated devices do that good ones don't: fall silent, and lose their line."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterable, Iterator

from device_agent.machine import Machine
from device_agent.moment import Moment
from device_agent.records import Outgoing
from fleet_core.runtime.backoff import Backoff
from simulator.dice import dice

HEARTBEATS_BEFORE_SILENCE = 2
SILENCE_S = 3600.0
AWAY_S = (8.0, 12.0)
"""How long a device that was cut stays away."""


class SilentMachine(Machine):
    """Sends two heartbeats and then nothing, while it stays connected."""

    _heartbeats = 0

    def on_connected(self, now: Moment) -> list[Outgoing]:
        birth, *following = super().on_connected(now)
        return [birth, *self._counted(following)]

    def on_tick(self, now: Moment) -> list[Outgoing]:
        return [] if self._is_silent else self._counted(super().on_tick(now))

    def next_due_s(self, now: Moment) -> float:
        return SILENCE_S if self._is_silent else super().next_due_s(now)

    @property
    def _is_silent(self) -> bool:
        return self._heartbeats >= HEARTBEATS_BEFORE_SILENCE

    def _counted(self, messages: list[Outgoing]) -> list[Outgoing]:
        if self._is_silent:
            return []
        self._heartbeats += sum(1 for message in messages if message.live)
        return messages


class CuttableDelays:
    """A backoff that, after a cut, first waits for the time the device stays away."""

    def __init__(self, source: random.Random) -> None:
        self._source = source
        self._backoff = Backoff(source=source)
        self._was_cut = False

    def cut(self) -> None:
        """The line is being cut on purpose: the next delay is the time away."""
        self._was_cut = True

    def next_s(self) -> float:
        was_cut, self._was_cut = self._was_cut, False
        return self._source.uniform(*AWAY_S) if was_cut else self._backoff.next_s()

    def reset(self) -> None:
        self._backoff.reset()


def cuts(
    device_ids: Iterable[str], percent_per_min: float, seed: int
) -> Iterator[tuple[float, str]]:
    """When whose line is cut, in seconds from the start: endless, in order, repeatable.

    On average `percent_per_min` of the devices in a minute; each device has its own dice, so that
    adding devices does not change the fate of the others.
    """
    if percent_per_min <= 0:
        return
    per_s = percent_per_min / 100 / 60
    sources = {name: dice(seed, name, "cuts") for name in device_ids}
    due = [(source.expovariate(per_s), name) for name, source in sources.items()]
    heapq.heapify(due)
    while due:
        at_s, name = due[0]
        yield at_s, name
        heapq.heapreplace(due, (at_s + AWAY_S[1] + sources[name].expovariate(per_s), name))
