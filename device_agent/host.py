"""What an agent asks of the machine it runs on. A simulated device answers the same questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from device_agent.moment import Moment
from fleet_core.contract.messages import Connector, DeviceInfo, Metrics


class Sample(msgspec.Struct, frozen=True):
    """The state of a machine at one moment."""

    metrics: Metrics
    connectors: Sequence[Connector] = ()
    info: DeviceInfo = DeviceInfo()


class Host(Protocol):
    """A machine. Neither method raises for what it finds."""

    def sample(self, now: Moment) -> Sample:
        """The present state, from what is known without waiting."""

    async def watch(self, changed: Callable[[Sequence[Connector]], None]) -> None:
        """Follow the connectors until cancelled; call `changed` with what is seen."""
