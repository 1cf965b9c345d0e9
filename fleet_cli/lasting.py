"""The live state of a tenant's devices over as many connections as it takes.

- Only a first connection that does not come about is an error; what is lost later is mended.
- After a loss the broker tells every device anew: the present, not only what changed.
- The waits grow (`Backoff`), so that a fleet of watchers does not come back in step.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from fleet_cli.asking import Target
from fleet_cli.client import DEFAULT_TENANT, check_target, client_id
from fleet_cli.errors import BrokerUnreachable
from fleet_cli.follow import Change, follow
from fleet_cli.options import operator_id
from fleet_core.runtime.backoff import Backoff

RECONNECT_FIRST_S = 1.0
RECONNECT_LIMIT_S = 15.0
LOST = "connection lost, reconnecting"


def new_backoff() -> Backoff:
    """The waits of one watch."""
    return Backoff(RECONNECT_FIRST_S, RECONNECT_LIMIT_S)


class Link:
    """Whether a watch hears its broker: `ever`, and `lost` now. `on_lost` is told of each loss."""

    def __init__(self, on_lost: Callable[[], None] | None = None) -> None:
        self.ever = False
        self.lost = False
        self._on_lost = on_lost

    def up(self) -> None:
        """There is a connection."""
        self.ever, self.lost = True, False

    def down(self) -> None:
        """There is none any more; of several failed attempts only the first is a loss."""
        if not self.lost and self._on_lost is not None:
            self._on_lost()
        self.lost = True


async def follow_on(target: Target, link: Link) -> AsyncGenerator[Change, None]:
    """Every device and each change, without end. Raises `BrokerUnreachable` when there was never a
    connection, and what `check_target` and `follow` raise besides."""
    operator = operator_id(target.operator)
    address = check_target(target.url, operator)
    backoff = new_backoff()

    def subscribed() -> None:
        backoff.reset()
        link.up()

    while True:
        changes = follow(
            address,
            client_id(operator),
            DEFAULT_TENANT,
            timeout_s=target.timeout_s,
            on_subscribed=subscribed,
        )
        try:
            async with aclosing(changes):
                async for change in changes:
                    yield change
        except BrokerUnreachable:
            if not link.ever:
                raise
        link.down()
        await asyncio.sleep(backoff.next_s())
