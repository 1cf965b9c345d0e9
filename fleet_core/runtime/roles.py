"""A role: the routes, ticks and drains that one handler process carries."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from fleet_core.registry.store import Registry
from fleet_core.runtime.config import Settings
from fleet_core.runtime.mqtt import Connection
from fleet_core.runtime.routes import Context, Route


class Tick(msgspec.Struct, frozen=True):
    """Work that is due by the clock. APScheduler only ticks; `run` decides from the registry."""

    name: str
    interval_s: Callable[[Settings], float]
    run: Callable[[Registry, Context, Settings], Awaitable[None]]


Drain = Callable[[Registry, Connection], Awaitable[int]]


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table of roles. `hears_devices`: silence of devices counts while it listens.
    `on_connect` runs after every (re)connection: a broker may have forgotten everything."""

    name: str
    routes: tuple[Route, ...] = ()
    ticks: tuple[Tick, ...] = ()
    drains: tuple[Drain, ...] = ()
    hears_devices: bool = False
    on_connect: Callable[[Registry], Awaitable[None]] | None = None
