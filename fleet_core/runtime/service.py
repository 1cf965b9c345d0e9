"""One process of the platform, at work in one role.

- A fresh connection for each generation, with jittered backoff between them.
- Publish what a batch decided, then acknowledge it; both only after its commit.
- The registry being down is not the messages' fault: nothing is acknowledged, the connection is
  kept, the same batch is tried again.
- SIGTERM finishes the batch in hand, says goodbye and leaves.
- Birth, heartbeat, goodbye and will of the process itself go to its own retained topic.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from importlib.metadata import version

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from fleet_core.contract.errors import Unavailable
from fleet_core.contract.messages import Presence, ServiceStatus
from fleet_core.contract.publication import Delivery, Publication, publication
from fleet_core.contract.topics import SERVICE_STATUS, shared
from fleet_core.registry.faults import DatabaseUnavailable
from fleet_core.registry.store import Registry
from fleet_core.runtime.backoff import Backoff
from fleet_core.runtime.config import Settings
from fleet_core.runtime.dispatch import Dispatcher
from fleet_core.runtime.hearing import TELL_INTERVAL_S, Hearing
from fleet_core.runtime.mqtt import Address, Connection, connect
from fleet_core.runtime.refusals import Refusals
from fleet_core.runtime.roles import Drain, Role, Tick
from fleet_core.runtime.routes import Context

DRAIN_INTERVAL_S = 0.25
SUSPICIOUS_ATTEMPTS = 5
STABLE_S = 10.0
"""A connection that lasted so long was a good one: the backoff begins anew after it."""
_log = structlog.get_logger("service")


class Service:
    """A role, its connection and its registry. `run` returns after `stop` was set."""

    def __init__(
        self, role: Role, registry: Registry, context: Context, settings: Settings
    ) -> None:
        self.stop = asyncio.Event()
        self._role = role
        self._registry = registry
        self._context = context
        self._settings = settings
        self._refusals = Refusals(
            payload_limit_bytes=settings.dead_letters.payload_limit_bytes,
            limit_per_minute=settings.dead_letters.limit_per_minute,
        )
        self._dispatcher = Dispatcher(role.routes, registry, context, self._refusals)
        self._hearing = Hearing()
        self._started_at = context.clock()
        self._identity = f"service.{context.instance}"
        self._version = version("mqtt-fleet")

    async def run(self) -> None:
        """Work until `stop` is set."""
        scheduler = self._scheduler()
        scheduler.start()
        backoff = Backoff(0.2, self._settings.broker.reconnect_limit_s)
        address = Address.parse(self._settings.broker.url)
        try:
            while not self.stop.is_set():
                began_at = self._context.clock()
                try:
                    async with connect(
                        address,
                        self._identity,
                        will=self._status(Presence.OFFLINE, "will"),
                        keepalive_s=self._settings.broker.keepalive_s,
                        timeout_s=self._settings.broker.timeout_s,
                    ) as connection:
                        await self._connected(connection)
                        await self._work(connection)
                except* Unavailable as group:
                    self._hearing.interrupt()
                    if self._context.clock() - began_at >= timedelta(seconds=STABLE_S):
                        backoff.reset()
                    delay_s = backoff.next_s()
                    reasons = sorted({str(error) for error in group.exceptions})
                    _log.warning(
                        "not connected",
                        reasons=reasons,
                        retry_s=round(delay_s, 1),
                        hint=_hint(backoff.attempts, self._identity),
                    )
                    await self._pause(delay_s)
        finally:
            scheduler.shutdown(wait=False)

    async def _connected(self, connection: Connection) -> None:
        wanted, other = self._filters()
        await connection.unsubscribe(other)
        await connection.subscribe([(f, 1) for f in wanted])
        self._hearing.begin(self._context.clock())
        if self._role.on_connect is not None:
            await self._while_unavailable(lambda: self._role.on_connect(self._registry))  # type: ignore[misc]
        await connection.publish(self._status(Presence.ONLINE, "birth"))
        _log.info("connected", role=self._role.name, broker=self._settings.broker.url)

    def _filters(self) -> tuple[Sequence[str], Sequence[str]]:
        """The filters to subscribe to, and those that a session may still hold from the time
        before `ingest.shared` was changed."""
        plain = [route.template.filter() for route in self._role.routes]
        if not self._role.hears_devices:
            return plain, ()
        in_common = [shared(f"fleet-{self._role.name}", f) for f in plain]
        return (in_common, plain) if self._settings.ingest.shared else (plain, in_common)

    async def _work(self, connection: Connection) -> None:
        """Everything that happens while connected; returns when told to stop."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._receive(connection))
            group.create_task(self._tell_status(connection))
            for drain in self._role.drains:
                group.create_task(self._drain(drain, connection))
        await connection.publish(self._status(Presence.OFFLINE, "goodbye"))

    async def _receive(self, connection: Connection) -> None:
        stopped = asyncio.create_task(self.stop.wait())
        try:
            while not self.stop.is_set():
                receiving = asyncio.create_task(
                    connection.receive(self._settings.ingest.batch_size)
                )
                try:
                    await asyncio.wait({receiving, stopped}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    if not receiving.done():
                        receiving.cancel()
                if receiving.done():
                    await self._process(connection, receiving.result())
        finally:
            stopped.cancel()

    async def _process(self, connection: Connection, deliveries: list[Delivery]) -> None:
        """Commit a batch however long it takes, then publish and acknowledge."""
        backoff = Backoff(0.1, self._settings.database.retry_limit_s)
        self._hearing.take(self._context.clock())
        while True:
            try:
                publications = await self._dispatcher.handle(deliveries)
                break
            except Unavailable as error:
                self._hearing.interrupt()
                _log.warning("waiting for the registry", reason=str(error), held=len(deliveries))
                await self._pause(backoff.next_s())
                if self.stop.is_set() or connection.is_lost:
                    return  # not acknowledged: the broker or the device sends it again
        self._hearing.stored(self._context.clock())
        await connection.publish_all(publications)
        connection.acknowledge(deliveries)

    async def _tell_status(self, connection: Connection) -> None:
        dropped = 0
        while not self.stop.is_set():
            await self._pause(self._settings.service.heartbeat_interval_s)
            if connection.dropped > dropped:
                dropped = connection.dropped
                _log.warning("messages at QoS 0 were dropped", dropped=dropped)
            if not self.stop.is_set():
                await connection.publish(self._status(Presence.ONLINE, "heartbeat"))

    async def _drain(self, drain: Drain, connection: Connection) -> None:
        while not self.stop.is_set():
            if not await self._while_unavailable(lambda: drain(self._registry, connection)):
                await self._pause(DRAIN_INTERVAL_S)

    async def _while_unavailable(self, work: Callable[[], Awaitable[object]]) -> object:
        """Try `work` until the registry answers, or until told to stop."""
        backoff = Backoff(0.1, self._settings.database.retry_limit_s)
        while not self.stop.is_set():
            try:
                return await work()
            except DatabaseUnavailable as error:
                _log.warning("waiting for the registry", reason=str(error))
                await self._pause(backoff.next_s())
        return None

    async def _pause(self, delay_s: float) -> None:
        """Wait, but not longer than until `stop`."""
        try:
            async with asyncio.timeout(delay_s):
                await self.stop.wait()
        except TimeoutError:
            return

    def _scheduler(self) -> AsyncIOScheduler:
        """APScheduler ticks; what is due is decided from the registry. A tick that could not run
        is made up for by the next one, so missed ones are dropped."""
        scheduler = AsyncIOScheduler(
            timezone="UTC",
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        for tick in self._role.ticks:
            scheduler.add_job(
                self._tick,
                "interval",
                [tick],
                seconds=tick.interval_s(self._settings),
                id=tick.name,
            )
        if self._role.hears_devices:
            scheduler.add_job(self._tell_hearing, "interval", seconds=TELL_INTERVAL_S, id="hearing")
        return scheduler

    async def _tick(self, tick: Tick) -> None:
        try:
            await tick.run(self._registry, self._context, self._settings)
        except Unavailable as error:
            _log.warning("a tick was missed", tick=tick.name, reason=str(error))

    async def _tell_hearing(self) -> None:
        now = self._context.clock()
        since = self._hearing.since(now)
        if since is None:
            return
        try:
            async with self._registry.transaction() as tx:
                await tx.services.listening(self._context.instance, since, now)
        except Unavailable as error:
            _log.warning("the registry does not answer", reason=str(error))

    def _status(self, state: Presence, reason: str) -> Publication:
        message = ServiceStatus(
            state=state,
            reason=reason,
            role=self._role.name,
            instance=self._context.instance,
            pid=os.getpid(),
            started_at=self._started_at,
            at=self._context.clock(),
            interval_s=self._settings.service.heartbeat_interval_s,
            version=self._version,
            counters={
                "committed": self._dispatcher.committed,
                "unrouted": self._dispatcher.unrouted,
                "refused": sum(self._refusals.counts.values()),
                "refused_not_stored": self._refusals.not_stored,
            },
        )
        return publication(SERVICE_STATUS, self._identity, message)


def _hint(attempts: int, identity: str) -> str:
    """What to look at when short connections follow each other."""
    if attempts < SUSPICIOUS_ATTEMPTS:
        return ""
    return f"is the broker up, and does no other process call itself {identity} (--instance)?"
