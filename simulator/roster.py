"""The roster: who the simulated devices are and how they behave. A pure function of its options.

Exactly the asked-for share of devices is hot, silent or cut; a silent device is never hot or cut,
so that it stays connected.
"""

from __future__ import annotations

import msgspec

from simulator.dice import dice

SITES = (
    "Berlin",
    "Lisbon",
    "Oslo",
    "Valencia",
    "Kraków",
    "Nairobi",
    "Montréal",
    "Recife",
    "Osaka",
    "Pune",
)
ENVIRONMENTS = ("production", "production", "production", "staging", "test")
HARDWARE = ("pi-4", "pi-5", "compute-module", "box-x86", "jetson")
PLACES = ("Mill", "Dock", "Roof", "Pump house", "Hall", "Tunnel", "Greenhouse", "Substation")
PREFIX_PATTERN = r"[a-z0-9][a-z0-9-]{0,40}"


class SimulatedDevice(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the roster. `hot` keeps its CPU over 90 %; `silent` stops after two heartbeats."""

    device_id: str
    name: str
    site: str
    tags: dict[str, str]
    hot: bool = False
    silent: bool = False


def roster(
    count: int, seed: int, *, prefix: str = "sim", silent_percent: float = 0, hot_percent: float = 0
) -> list[SimulatedDevice]:
    """`count` devices in the order of their ids."""
    order = list(range(count))
    dice(seed, "roles").shuffle(order)
    silent_count = round(count * silent_percent / 100)
    hot_count = round(count * hot_percent / 100)
    silent = frozenset(order[:silent_count])
    hot = frozenset(order[silent_count : silent_count + hot_count])
    return [_device(n, seed, prefix, hot=n in hot, silent=n in silent) for n in range(count)]


def _device(index: int, seed: int, prefix: str, *, hot: bool, silent: bool) -> SimulatedDevice:
    device_id = f"{prefix}-{index + 1:05}"
    source = dice(seed, device_id, "row")
    site, place = source.choice(SITES), source.choice(PLACES)
    return SimulatedDevice(
        device_id=device_id,
        name=f"{place} {site} {index + 1}",
        site=site,
        tags={"env": source.choice(ENVIRONMENTS), "hardware": source.choice(HARDWARE)},
        hot=hot,
        silent=silent,
    )
