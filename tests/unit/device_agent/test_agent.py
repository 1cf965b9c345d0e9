"""The shell against a broker made of queues: order, lanes, loss, and the end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Self, cast

import pytest

from device_agent.agent import STABLE_SESSION_S, Agent
from device_agent.host import Sample
from device_agent.machine import Machine, MachineSettings
from device_agent.moment import Moment, present
from device_agent.once import EXIT_OK, EXIT_TIMEOUT, EXIT_UNREACHABLE, FirstReceipt
from device_agent.spool import MemoryStorage, Spool
from device_agent.takeover import SHORT_SESSIONS_LIMIT
from fleet_core.contract.codec import decode, encode
from fleet_core.contract.messages import Connector, DeviceStatus, Farewell, Receipt
from fleet_core.contract.publication import Delivery, Publication
from fleet_core.contract.topics import (
    DEVICE_EVENTS,
    DEVICE_HEARTBEAT,
    DEVICE_RECEIPTS,
    DEVICE_STATUS,
    Template,
    parse,
)
from fleet_core.runtime.mqtt import Address, Connection, ConnectionLost
from tests.fixtures.eventually import eventually
from tests.unit.device_agent.story import BOOT, DEVICE, METRICS, moment

ADDRESS = Address("127.0.0.1", 1883)


class StillMachine:
    """A host that never changes."""

    def sample(self, _now: Moment) -> Sample:
        return Sample(METRICS)

    async def watch(self, _changed: Callable[[Sequence[Connector]], None]) -> None:
        await asyncio.get_running_loop().create_future()


class HandClock:
    """A clock that goes on by itself only when it is told how far, each time it is read."""

    def __init__(self, step_s: float = 0) -> None:
        self.elapsed_s, self._step_s = 0.0, step_s

    def __call__(self) -> Moment:
        self.elapsed_s += self._step_s
        return moment(self.elapsed_s)


class AtOnce:
    """Delays for the impatient; counts what is asked of it."""

    asked = 0
    was_reset = 0

    def next_s(self) -> float:
        self.asked += 1
        return 0.001

    def reset(self) -> None:
        self.was_reset += 1


class Line:
    """One connection to nobody."""

    def __init__(self, broker: PaperBroker) -> None:
        self._broker = broker
        self._inbox: asyncio.Queue[Delivery] = asyncio.Queue()
        self.acknowledged = 0
        self.lost = asyncio.Event()

    async def subscribe(self, filters: Sequence[tuple[str, int]]) -> None:
        self._broker.subscribed.append(list(filters))

    async def publish_all(self, publications: Sequence[Publication]) -> None:
        for publication in publications:
            template = parse(publication.topic).template
            self._broker.published.append((template, publication))
            if template in self._broker.held:
                await self._broker.released.wait()
            if template in self._broker.deaf:
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.get_running_loop().create_future()

    async def receive(self, _limit: int) -> list[Delivery]:
        waiting = asyncio.ensure_future(self._inbox.get())
        losing = asyncio.ensure_future(self.lost.wait())
        try:
            await asyncio.wait((waiting, losing), return_when=asyncio.FIRST_COMPLETED)
            if self.lost.is_set():
                raise ConnectionLost("cut")
            return [waiting.result()]
        finally:
            waiting.cancel()
            losing.cancel()

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        self.acknowledged += len(deliveries)

    def abort(self) -> None:
        self.lost.set()

    def deliver(self, topic: str, payload: bytes) -> None:
        self._inbox.put_nowait(Delivery(topic, payload, False, moment(0).at))


class PaperBroker:
    """Accepts everybody, or nobody while `down`; writes down what is said. What is `held` is not
    confirmed before `released`."""

    def __init__(self) -> None:
        self.down = False
        self.lines: list[Line] = []
        self.wills: list[Publication] = []
        self.subscribed: list[list[tuple[str, int]]] = []
        self.published: list[tuple[Template, Publication]] = []
        self.held: set[Template] = set()
        self.deaf: set[Template] = set()
        self.released = asyncio.Event()

    @asynccontextmanager
    async def connect(
        self, address: Address, client_id: str, *, will: Publication
    ) -> AsyncIterator[Connection]:
        assert (address, client_id) == (ADDRESS, DEVICE)
        self.wills.append(will)
        if self.down:
            raise ConnectionLost("refused")
        self.lines.append(Line(self))
        yield cast("Connection", self.lines[-1])

    def templates(self) -> list[Template]:
        return [template for template, _ in self.published]

    def statuses(self) -> list[DeviceStatus]:
        said = [decode(t, p.payload) for t, p in self.published if t is DEVICE_STATUS]
        return [status for status in said if isinstance(status, DeviceStatus)]


class Life:
    """An agent that runs in the background of a test."""

    def __init__(self, **more: Any) -> None:
        self.broker, self.delays, self.stop = PaperBroker(), AtOnce(), asyncio.Event()
        self.spool = Spool(MemoryStorage())
        settings = MachineSettings(device_id=DEVICE, interval_s=300)
        host = StillMachine()
        clock = more.get("clock", present)
        self.machine = Machine(settings, self.spool, host.sample, clock(), BOOT)
        observer = more.get("observer", lambda _life: None)(self)
        self.agent = Agent(
            DEVICE,
            ADDRESS,
            self.machine,
            host,
            clock=clock,
            delays=self.delays,
            connect=self.broker.connect,
            observer=observer,
        )

    async def __aenter__(self) -> Self:
        self.task = asyncio.create_task(self.agent.run(self.stop))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.broker.released.set()
        self.stop.set()
        await self.task

    def has_begun(self, session: int) -> bool:
        return len(self.broker.statuses()) == session

    def receipt(self, *seqs: int) -> None:
        payload = encode(Receipt(boot_id=BOOT, ranges=[(seq, seq) for seq in seqs]))
        self.broker.lines[-1].deliver(DEVICE_RECEIPTS.topic(DEVICE), payload)


async def test_the_birth_is_confirmed_before_any_record_goes_out() -> None:
    life = Life()
    life.machine.add_event("test.happened", present())
    life.broker.held.add(DEVICE_STATUS)
    async with life:
        await eventually(life.broker.templates)
        assert life.broker.templates() == [DEVICE_STATUS]
        life.broker.released.set()
        await eventually(lambda: len(life.broker.published) == 3)
    first, *records, last = life.broker.templates()
    assert (first, last) == (DEVICE_STATUS, DEVICE_STATUS)
    assert set(records) == {DEVICE_HEARTBEAT, DEVICE_EVENTS}


async def test_a_replay_that_hangs_holds_up_no_heartbeat() -> None:
    life = Life()
    life.machine.add_event("test.happened", present())
    life.broker.held.add(DEVICE_EVENTS)
    async with life:
        await eventually(lambda: DEVICE_EVENTS in life.broker.templates())
        await eventually(lambda: DEVICE_HEARTBEAT in life.broker.templates())


async def test_receipts_empty_the_spool_and_are_acknowledged() -> None:
    async with Life() as life:
        await eventually(lambda: life.broker.templates().count(DEVICE_HEARTBEAT) == 1)
        life.receipt(1)
        await eventually(lambda: life.spool.rows == 0)
        assert life.broker.lines[-1].acknowledged == 1
        assert life.broker.subscribed == [[(DEVICE_RECEIPTS.filter(DEVICE), DEVICE_RECEIPTS.qos)]]


async def test_what_is_not_a_receipt_is_refused_counted_and_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    async with Life() as life:
        await eventually(lambda: life.broker.lines and life.spool.rows == 1)
        line, topic = life.broker.lines[-1], DEVICE_RECEIPTS.topic(DEVICE)
        for payload in (b"", b"{}", b"[" * 100_000, b'{"boot_id": "x", "ranges": [[1, 2]]}'):
            line.deliver(topic, payload)
        line.deliver("fleet/v1/else\nwhere", b"{}")
        life.receipt(1)
        await eventually(lambda: life.spool.rows == 0)
    refusals = [r for r in caplog.records if r.message == "agent.refused"]
    assert len(refusals) == 2
    assert dict(life.agent._refused) == {"invalid_payload": 4, "invalid_topic": 1}


async def test_a_lost_line_is_followed_by_the_next_session_with_its_own_will() -> None:
    async with Life() as life:
        await eventually(lambda: len(life.broker.statuses()) == 1)
        assert life.agent.cut()
        await eventually(lambda: len(life.broker.statuses()) == 2)
        assert [status.session for status in life.broker.statuses()] == [1, 2]
        assert len(life.broker.wills) == 2
        await eventually(lambda: life.broker.templates().count(DEVICE_HEARTBEAT) >= 3)
    assert life.delays.was_reset == 0, "short sessions keep the backoff"
    assert life.broker.statuses()[-1].reason is Farewell.GOODBYE


async def test_without_a_broker_it_tries_again_and_ends_when_told() -> None:
    life = Life()
    life.broker.down = True
    async with life:
        await eventually(lambda: life.delays.asked >= 3)
        assert not life.agent.cut()
    assert life.broker.published == []


async def test_a_session_that_lasted_makes_the_backoff_begin_anew() -> None:
    clock = HandClock()
    async with Life(clock=clock) as life:
        await eventually(lambda: len(life.broker.statuses()) == 1)
        clock.elapsed_s = STABLE_SESSION_S
        assert life.agent.cut()
        await eventually(lambda: len(life.broker.statuses()) == 2)
        assert life.delays.was_reset == 1


async def test_an_attempt_that_takes_long_is_no_session_and_keeps_the_backoff() -> None:
    life = Life(clock=HandClock(step_s=STABLE_SESSION_S + 1))
    life.broker.down = True
    async with life:
        await eventually(lambda: life.delays.asked >= 3)
    assert life.delays.was_reset == 0


async def test_a_connection_taken_away_again_and_again_is_reported_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    async with Life() as life:
        for session in range(1, 8):
            await eventually(partial(life.has_begun, session))
            contested = [r for r in caplog.records if r.message == "agent.contested"]
            assert len(contested) == (session > SHORT_SESSIONS_LIMIT)
            assert life.agent.cut()
    assert logged(contested[0])["reason"] == (
        "the connection is taken away again and again: is another agent running as gw-0001?"
    )
    assert life.delays.was_reset == 0, "and the backoff grows"


async def test_a_platform_that_gives_no_receipt_is_reported_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    clock = HandClock()
    async with Life(clock=clock) as life:
        await eventually(lambda: DEVICE_HEARTBEAT in life.broker.templates())
        for elapsed_s in (29.0, 30.0, 31.0, 90.0):
            clock.elapsed_s = elapsed_s
            life.agent._wake.set()
            await eventually(lambda: not life.agent._wake.is_set())
            assert caplog.messages == ["agent.unreceipted"] * (elapsed_s >= 30)
    assert logged(caplog.records[0])["reason"] == (
        "no receipt for 30 s: is this device registered? (fleet device list)"
    )


async def test_a_goodbye_nobody_confirms_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("device_agent.agent.GOODBYE_TIMEOUT_S", 0.05)
    async with Life() as life:
        await eventually(lambda: life.broker.templates().count(DEVICE_HEARTBEAT) == 1)
        life.broker.held.add(DEVICE_STATUS)
        life.stop.set()
        await life.task
        assert life.broker.statuses()[-1].reason is Farewell.GOODBYE
        assert life.broker.lines[-1].lost.is_set(), "the broker has to speak the will"


async def test_a_task_that_swallows_its_cancellation_does_not_hold_up_the_goodbye() -> None:
    life = Life()
    life.broker.deaf.add(DEVICE_HEARTBEAT)
    async with life:
        await eventually(lambda: DEVICE_HEARTBEAT in life.broker.templates())
    assert life.broker.statuses()[-1].reason is Farewell.GOODBYE


def logged(record: logging.LogRecord) -> dict[str, object]:
    values: dict[str, object] = record.__dict__["fields"]
    return values


def first_receipt(life: Life) -> FirstReceipt:
    return FirstReceipt(life.machine, life.stop)


@pytest.mark.parametrize(("seq", "code"), [(1, EXIT_OK), (2, EXIT_TIMEOUT)])
async def test_once_ends_with_the_receipt_of_its_own_heartbeat(seq: int, code: int) -> None:
    kept: list[FirstReceipt] = []

    def observe(life: Life) -> FirstReceipt:
        kept.append(first_receipt(life))
        return kept[0]

    async with Life(observer=observe) as life:
        await eventually(lambda: life.broker.templates().count(DEVICE_HEARTBEAT) == 1)
        life.receipt(seq)
        await eventually(lambda: life.broker.lines[-1].acknowledged == 1)
        assert life.stop.is_set() == (code == EXIT_OK)
    assert kept[0].exit_code == code


async def test_once_gives_up_on_the_first_failed_attempt() -> None:
    kept: list[FirstReceipt] = []

    def observe(life: Life) -> FirstReceipt:
        life.broker.down = True
        kept.append(first_receipt(life))
        return kept[0]

    async with Life(observer=observe) as life:
        await eventually(life.stop.is_set)
    assert kept[0].exit_code == EXIT_UNREACHABLE


async def test_once_that_gets_no_receipt_says_what_to_look_at(
    caplog: pytest.LogCaptureFixture,
) -> None:
    kept: list[FirstReceipt] = []

    def observe(life: Life) -> FirstReceipt:
        kept.append(first_receipt(life))
        return kept[0]

    async with Life(observer=observe) as life:
        await eventually(lambda: DEVICE_HEARTBEAT in life.broker.templates())
        kept[0].give_up()
        kept[0].give_up()
        assert life.stop.is_set()
    assert kept[0].exit_code == EXIT_TIMEOUT
    (record,) = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert logged(record)["reason"] == (
        "no receipt for 15 s: is this device registered? (fleet device list)"
    )


async def test_once_that_never_connected_was_unreachable_and_blames_no_registration(
    caplog: pytest.LogCaptureFixture,
) -> None:
    life = Life()
    waiting = first_receipt(life)
    waiting.give_up()
    assert life.stop.is_set()
    assert waiting.exit_code == EXIT_UNREACHABLE
    assert caplog.records == []
