"""The connectors a device runs, from whoever knows them.

- A provider reads a list or raises `ProviderFailed`; `docker.py` has another one.
- While a provider fails, what it last listed is reported with status `unknown`. Failing and
  recovering are one log line each.
- Several providers are joined in order; the first to use a name keeps it.
"""

from __future__ import annotations

import asyncio
import logging
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from device_agent.information import line
from device_agent.logs import fields
from fleet_core.contract.messages import MAX_CONNECTORS, Connector, ConnectorStatus

logger = logging.getLogger(__name__)

NAME_LIMIT = 128
FILE_LIMIT_BYTES = 256 * 1024


class ProviderFailed(Exception):
    """The connectors can't be read now."""


class Provider(Protocol):
    """Somebody who knows connectors."""

    async def read(self) -> list[Connector]:
        """The connectors now. Raises `ProviderFailed`."""


class _FileContent(msgspec.Struct, forbid_unknown_fields=True):
    connectors: list[Connector]


class StaticFile:
    """A file somebody else keeps: a JSON list of `{name, type, status}`, or TOML with the same
    under `[[connectors]]`. It is read each time."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def read(self) -> list[Connector]:
        return await asyncio.to_thread(self._read)

    def _read(self) -> list[Connector]:
        try:
            with self._path.open("rb") as file:
                content = file.read(FILE_LIMIT_BYTES + 1)
            if len(content) > FILE_LIMIT_BYTES:
                raise ProviderFailed(f"{self._path} has more than {FILE_LIMIT_BYTES} bytes")
            if self._path.suffix == ".json":
                return msgspec.json.decode(content, type=list[Connector])
            document = tomllib.loads(content.decode())
            return msgspec.convert(document, _FileContent).connectors
        except (OSError, ValueError, RecursionError) as error:
            raise ProviderFailed(f"{self._path}: {error}") from error


class ConnectorWatch:
    """Joins providers, whatever they do."""

    def __init__(self, providers: Sequence[Provider]) -> None:
        self._known: dict[Provider, list[Connector]] = {provider: [] for provider in providers}
        self._failing: set[Provider] = set()

    async def read(self) -> list[Connector]:
        """What is known now, fit for a heartbeat. Never raises for what a provider does."""
        for provider in self._known:
            await self._refresh(provider)
        joined: dict[str, Connector] = {}
        for connector in (c for known in self._known.values() for c in known):
            joined.setdefault(connector.name, connector)
        return list(joined.values())[:MAX_CONNECTORS]

    async def _refresh(self, provider: Provider) -> None:
        name = type(provider).__name__
        try:
            self._known[provider] = list(_fit(await provider.read()))
        except ProviderFailed as error:
            if provider not in self._failing:
                logger.warning("connectors.failing", extra=fields(provider=name, error=error))
            self._failing.add(provider)
            self._known[provider] = [_unknown(known) for known in self._known[provider]]
            return
        if provider in self._failing:
            logger.info("connectors.recovered", extra=fields(provider=name))
        self._failing.discard(provider)


def _fit(connectors: Iterable[Connector]) -> Iterable[Connector]:
    for connector in connectors:
        name = line(connector.name, NAME_LIMIT)
        if name:
            yield msgspec.structs.replace(connector, name=name, type=line(connector.type))


def _unknown(connector: Connector) -> Connector:
    return msgspec.structs.replace(connector, status=ConnectorStatus.UNKNOWN)
