"""The shell around the machine: one agent's connections, ticks and signals. It decides nothing.

- One session at a time: connect with the will, subscribe, publish the birth and wait for its
  PUBACK, then let live and replayed messages go out side by side, each in a bounded lane.
- A lane that is full loses the message, not the record: it is in the spool and comes again.
- After a loss the next attempt waits for the backoff, which begins anew once a session has lasted.
  Time spent on trying to connect is no session.
- To stop: goodbye, its PUBACK, DISCONNECT, all within `STOP_TIMEOUT_S`. A session that ends in any
  other way is cut, so that the broker speaks the will and nobody stays online by mistake.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from device_agent.host import Host
from device_agent.logs import fields
from device_agent.machine import Machine
from device_agent.moment import MomentClock, present
from device_agent.observer import Observer
from device_agent.records import Outgoing
from device_agent.takeover import ShortSessions
from fleet_core.contract.codec import decode_as
from fleet_core.contract.errors import InvalidTopic, Rejected, Unavailable
from fleet_core.contract.messages import Connector, Receipt
from fleet_core.contract.topics import DEVICE_RECEIPTS
from fleet_core.runtime import mqtt
from fleet_core.runtime.backoff import Backoff

logger = logging.getLogger(__name__)

LANE_LIMIT = 256
"""Messages that may wait in one lane."""
RECEIVE_LIMIT = 100
"""Deliveries handled before they are acknowledged."""
STABLE_SESSION_S = 10.0
"""A session that lasted this long makes the backoff begin anew."""
STOP_TIMEOUT_S = 4.0
GOODBYE_TIMEOUT_S = 3.0
CANCEL_AGAIN_S = 0.1
CANCEL_LIMIT = 20
"""How often a task is told to end."""
TICK_MIN_S = 0.01
"""No two ticks come closer, whatever is due."""


class Delays(Protocol):
    """How long to wait between attempts to connect; `runtime.backoff.Backoff` is one."""

    def next_s(self) -> float: ...

    def reset(self) -> None: ...


class Connect(Protocol):
    """How a connection is made; `mqtt.connect` is one."""

    def __call__(
        self, address: mqtt.Address, client_id: str, *, will: mqtt.Publication
    ) -> AbstractAsyncContextManager[mqtt.Connection]: ...


class Agent:
    """One device's life on the wire. Runs once."""

    def __init__(
        self,
        device_id: str,
        address: mqtt.Address,
        machine: Machine,
        host: Host,
        *,
        clock: MomentClock = present,
        delays: Delays | None = None,
        observer: Observer | None = None,
        connect: Connect = mqtt.connect,
    ) -> None:
        self._device_id, self._address = device_id, address
        self._machine, self._host, self._clock = machine, host, clock
        self._delays: Delays = delays or Backoff()
        self._observer = observer or Observer()
        self._connect = connect
        self._connection: mqtt.Connection | None = None
        self._began_s: float | None = None
        self._short_sessions = ShortSessions()
        self._live: asyncio.Queue[Outgoing] = asyncio.Queue(LANE_LIMIT)
        self._replayed: asyncio.Queue[Outgoing] = asyncio.Queue(LANE_LIMIT)
        self._wake = asyncio.Event()
        self._refused: Counter[str] = Counter()

    async def run(self, stop: asyncio.Event) -> None:
        """Live until `stop`, then say goodbye. What this raises is a bug."""
        async with asyncio.TaskGroup() as group:
            life = group.create_task(self._stay_connected(stop))
            tasks = [
                life,
                group.create_task(self._tick()),
                group.create_task(self._host.watch(self._on_connectors)),
            ]
            await stop.wait()
            await asyncio.wait({life}, timeout=STOP_TIMEOUT_S)
            for task in tasks:
                task.cancel()

    def cut(self) -> bool:
        """Cut the line as a power cut would (fault injection). False when there is none."""
        if self._connection is None:
            return False
        self._connection.abort()
        return True

    async def _stay_connected(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self._began_s = None
            try:
                await self._session(stop)
            except Unavailable as error:
                logger.warning("agent.disconnected", extra=fields(reason=error))
                self._on_lost()
                self._observer.disconnected(error)
            await _wait(stop, self._delays.next_s())

    def _on_lost(self) -> None:
        """A session or an attempt at one is over; only what was connected counts as a session."""
        if self._began_s is None:
            return
        now_s = self._clock().elapsed_s
        lasted_s = now_s - self._began_s
        if lasted_s >= STABLE_SESSION_S:
            self._delays.reset()
        if self._short_sessions.lost(lasted_s, now_s):
            reason = (
                "the connection is taken away again and again: "
                f"is another agent running as {self._device_id}?"
            )
            logger.warning("agent.contested", extra=fields(reason=reason))

    async def _session(self, stop: asyncio.Event) -> None:
        will = self._machine.on_connecting(self._clock())
        async with self._connect(self._address, self._device_id, will=will) as connection:
            self._live, self._replayed = asyncio.Queue(LANE_LIMIT), asyncio.Queue(LANE_LIMIT)
            self._connection, self._began_s = connection, self._clock().elapsed_s
            try:
                await self._converse(connection, stop)
            except BaseException:
                connection.abort()  # the broker has to speak the will: nobody said goodbye
                raise
            finally:
                self._connection = None
                self._machine.on_disconnected()

    async def _converse(self, connection: mqtt.Connection, stop: asyncio.Event) -> None:
        receipts = DEVICE_RECEIPTS
        await connection.subscribe([(receipts.filter(self._device_id), receipts.qos)])
        birth, *following = self._machine.on_connected(self._clock())
        self._enqueue(following)
        await self._publish(connection, [birth])
        logger.info(
            "agent.connected", extra=fields(broker=self._address, session=self._machine.session)
        )
        self._observer.connected()
        self._wake.set()
        await _first_of(
            self._listen(connection),
            self._send(connection, self._live),
            self._send(connection, self._replayed),
            stop.wait(),
        )
        goodbye = self._machine.goodbye(self._clock())
        try:
            async with asyncio.timeout(GOODBYE_TIMEOUT_S):
                await self._publish(connection, [goodbye])
        except TimeoutError as error:
            raise mqtt.ConnectionLost("the goodbye was not confirmed") from error
        logger.info("agent.goodbye", extra=fields(session=self._machine.session))

    async def _tick(self) -> None:
        while True:
            self._wake.clear()
            self._enqueue(self._machine.on_tick(self._clock()))
            silence_s = self._machine.take_silence_s(self._clock())
            if silence_s is not None:
                logger.warning("agent.unreceipted", extra=fields(reason=no_receipt(silence_s)))
            due_s = self._machine.next_due_s(self._clock())
            await _wait(self._wake, max(due_s, TICK_MIN_S))

    async def _listen(self, connection: mqtt.Connection) -> None:
        while True:
            deliveries = await connection.receive(RECEIVE_LIMIT)
            for delivery in deliveries:
                self._on_delivery(delivery)
            connection.acknowledge(deliveries)

    async def _send(self, connection: mqtt.Connection, lane: asyncio.Queue[Outgoing]) -> None:
        while True:
            messages = [await lane.get()]
            while not lane.empty():
                messages.append(lane.get_nowait())
            await self._publish(connection, messages)

    async def _publish(self, connection: mqtt.Connection, messages: Sequence[Outgoing]) -> None:
        for message in messages:
            self._observer.sending(message)
        await connection.publish_all([message.publication for message in messages])
        for message in messages:
            self._observer.acknowledged(message)

    def _enqueue(self, messages: Iterable[Outgoing]) -> None:
        for message in messages:
            lane = self._live if message.live else self._replayed
            if not lane.full():
                lane.put_nowait(message)

    def _on_delivery(self, delivery: mqtt.Delivery) -> None:
        """Hand a receipt to the machine; refuse anything else, and log each reason once."""
        try:
            if delivery.topic != DEVICE_RECEIPTS.topic(self._device_id):
                raise InvalidTopic("nothing was subscribed there")
            receipt = decode_as(Receipt, delivery.payload)
        except Rejected as error:
            self._refused[error.reason] += 1
            if self._refused[error.reason] == 1:
                logger.warning("agent.refused", extra=fields(topic=delivery.topic, reason=error))
            return
        self._machine.on_receipt(receipt)
        self._observer.receipted(receipt)
        self._wake.set()

    def _on_connectors(self, connectors: Sequence[Connector]) -> None:
        self._machine.on_connectors(connectors, self._clock())
        self._wake.set()


def no_receipt(silence_s: float) -> str:
    """What to tell an operator whose device gets no receipt."""
    return f"no receipt for {silence_s:.0f} s: is this device registered? (fleet device list)"


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    """Until `event` is set or `timeout_s` is over."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await event.wait()


async def _first_of(*work: Coroutine[object, object, object]) -> None:
    """Run all until the first ends, end the others, and raise what the first raised."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await _end(tasks)
    for task in done:
        task.result()


async def _end(tasks: Iterable[asyncio.Future[object]]) -> None:
    """Cancel `tasks` until they have ended; what they raise is not raised here.

    Once is not always enough: in Python 3.11 `asyncio.wait_for` swallows a cancellation that comes
    in the same moment as what it waits for.
    """
    pending = set(tasks)
    for _ in range(CANCEL_LIMIT):
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=CANCEL_AGAIN_S)
        pending = {task for task in pending if not task.done()}
        if not pending:
            break
    for task in tasks:
        if task.done() and not task.cancelled():
            task.exception()
