"""The machine the agent really runs on: a `Host` out of metrics, information and connectors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from device_agent.connectors import ConnectorWatch
from device_agent.host import Sample
from device_agent.information import device_info
from device_agent.metrics import MetricsProbe
from device_agent.moment import Moment
from fleet_core.contract.messages import Connector


class ThisMachine:
    """Implements `host.Host`. Connectors are polled aside, so that no heartbeat waits for them."""

    def __init__(
        self, probe: MetricsProbe, connectors: ConnectorWatch, poll_interval_s: float, stack: str
    ) -> None:
        self._probe, self._watch = probe, connectors
        self._poll_interval_s, self._stack_version = poll_interval_s, stack
        self._connectors: list[Connector] = []

    def sample(self, now: Moment) -> Sample:
        metrics = self._probe.sample(now)
        return Sample(metrics, self._connectors, device_info(self._stack_version))

    async def look(self) -> None:
        """Read the connectors once, so that the first heartbeat knows them."""
        self._connectors = await self._watch.read()

    async def watch(self, changed: Callable[[Sequence[Connector]], None]) -> None:
        while True:
            await asyncio.sleep(self._poll_interval_s)
            before = self._connectors
            await self.look()
            if self._connectors != before:
                changed(self._connectors)
