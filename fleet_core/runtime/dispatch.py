"""The six stations of a message (docs/adr/0002):

match topic -> decode -> open transaction, load -> decide -> write, commit -> publish, acknowledge

The first five are here; `service.py` publishes and acknowledges what `Dispatcher.handle` returns.
This is the one place that catches:

- `Unavailable` goes up untouched: nothing was committed, the caller tries the same batch again.
- A statement that took too long is tried with half the batch; a single request that takes too long
  is answered as failed, so that one operator's question can't stop all others.
- `Rejected` makes a dead letter of the message it concerns.
- A batch that the database refuses, or that trips over a bug, is halved until the message at fault
  stands alone; that one becomes a dead letter, everything else is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import structlog

from fleet_core.contract import codec, topics
from fleet_core.contract.errors import HandlerFault, Rejected, TookTooLong, Unavailable
from fleet_core.contract.publication import Delivery, Publication
from fleet_core.registry.counters import DEAD_LETTERS
from fleet_core.registry.dead_letters import DeadLetter
from fleet_core.registry.faults import StatementTimeout
from fleet_core.registry.store import Registry, Transaction
from fleet_core.runtime.refusals import Refusals
from fleet_core.runtime.routes import Context, Inbound, Outcome, Route, in_order

_log = structlog.get_logger("dispatch")

Routed = tuple[Route, Inbound[Any]]


class Dispatcher:
    """Takes deliveries to the registry. One per process; not for concurrent use."""

    def __init__(
        self, routes: Sequence[Route], registry: Registry, context: Context, refusals: Refusals
    ) -> None:
        self._routes = {route.template.name: route for route in routes}
        self._registry = registry
        self._context = context
        self._refusals = refusals
        self.committed = 0
        self.unrouted = 0

    async def handle(self, deliveries: Sequence[Delivery]) -> list[Publication]:
        """Carry a batch through to its commit; what is to be published, in order.

        When it raises `Unavailable`, parts of the batch may be committed; doing all of it again is
        safe, because every write of a handler is idempotent.
        """
        accepted, letters = self._decode(deliveries)
        if not accepted and not letters:
            return []
        return await self._commit(accepted, letters)

    def _decode(self, deliveries: Sequence[Delivery]) -> tuple[list[Routed], list[DeadLetter]]:
        """Stations one and two. What has no route here was not asked for and is left alone."""
        accepted: list[Routed] = []
        letters: list[DeadLetter] = []
        for delivery in deliveries:
            try:
                topic = topics.parse(delivery.topic)
                route = self._routes.get(topic.template.name)
                if route is None:
                    self.unrouted += 1
                    continue
                message = codec.decode(topic.template, delivery.payload)
            except Rejected as error:
                letters.append(self._refusals.letter(delivery, error))
                continue
            accepted.append((route, Inbound(topic.identity, topic.key, message, delivery)))
        return accepted, letters

    async def _commit(
        self, accepted: Sequence[Routed], letters: list[DeadLetter]
    ) -> list[Publication]:
        """Stations three to five, for the whole batch or, where that fails, for its halves."""
        try:
            return await self._in_one_transaction(accepted, letters)
        except StatementTimeout as error:
            if len(accepted) > 1:
                return await self._in_halves(accepted, letters)
            if not accepted or accepted[0][0].apologise is None:
                raise
            return await self._give_up(*accepted[0], letters, TookTooLong(str(error)))
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001 (the one place that catches)
            if not accepted:
                _log.exception("dead letters could not be stored", lost=len(letters))
                return []
            if len(accepted) > 1:
                return await self._in_halves(accepted, letters)
            route, inbound = accepted[0]
            if not isinstance(error, Rejected):
                _log.exception("a handler failed", topic=inbound.delivery.topic[:200])
                error = HandlerFault(f"{type(error).__name__}: {error}"[:300])
            return await self._give_up(route, inbound, letters, error)

    async def _in_halves(
        self, accepted: Sequence[Routed], letters: list[DeadLetter]
    ) -> list[Publication]:
        middle = len(accepted) // 2
        first = await self._commit(accepted[:middle], letters)
        return first + await self._commit(accepted[middle:], [])

    async def _give_up(
        self, route: Route, inbound: Inbound[Any], letters: list[DeadLetter], error: Rejected
    ) -> list[Publication]:
        """Make a dead letter of one message, and tell its sender where somebody waits."""
        await self._commit([], [*letters, self._refusals.letter(inbound.delivery, error)])
        return route.apologise(inbound) if route.apologise else []

    async def _in_one_transaction(
        self, accepted: Sequence[Routed], letters: list[DeadLetter]
    ) -> list[Publication]:
        now = self._context.clock()
        publications: list[Publication] = []
        async with self._registry.transaction() as tx:
            letters = list(letters)
            groups = in_order(accepted)
            if len(groups) > 1:
                await tx.claim_devices(inbound.identity for _, inbound in accepted)
            for route, batch in groups:
                outcome = await self._run(route, batch, tx)
                publications += outcome.publish
                await tx.outbox.insert(outcome.owe)
                letters += [self._refusals.letter(i.delivery, e) for i, e in outcome.rejected]
            stored = await self._store_letters(tx, letters, now)
        self._refusals.committed(letters, stored, now)
        self.committed += len(accepted)
        return publications

    async def _run(self, route: Route, batch: Sequence[Inbound[Any]], tx: Transaction) -> Outcome:
        """A batch handler sees all; a single one sees each message in a savepoint of its own."""
        if route.handle_batch is not None:
            return await route.handle_batch(batch, tx, self._context)
        total = Outcome()
        for inbound in batch:
            try:
                async with tx.savepoint():
                    outcome = await route.handle(inbound, tx, self._context)  # type: ignore[misc]
            except Rejected as error:
                total.rejected.append((inbound, error))
                continue
            total.publish += outcome.publish
            total.owe += outcome.owe
            total.rejected += outcome.rejected
        return total

    async def _store_letters(
        self, tx: Transaction, letters: list[DeadLetter], now: datetime
    ) -> int:
        storable = self._refusals.storable(letters, now)
        await tx.dead_letters.insert(storable)
        await tx.counters.add(DEAD_LETTERS, self._context.instance, len(letters), now)
        return len(storable)
