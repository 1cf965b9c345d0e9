"""An operator's session with the platform: requests out, answers in, over MQTT and nothing else.

- The client id is the operator and a random suffix: one person runs several commands at once.
- Answers are subscribed to before the first question, so that none can be missed.
- Several requests may be under way; each answer is put together by its own `Reassembly`.
- What is not addressed to a request under way is acknowledged and ignored.
- A lost connection fails every request under way; a session does not reconnect.

Source: design §2 (requests and responses), §8 (chunks).
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import timedelta
from typing import Any

import msgspec

from fleet_cli.errors import BrokerUnreachable, CommandFailed, NoAnswer, RequestFailed, UsageFailed
from fleet_cli.follow import Change, follow
from fleet_core.contract.codec import decode, encode
from fleet_core.contract.errors import ConfigError, InvalidTopic, Rejected
from fleet_core.contract.messages import Chunk, Request, Response
from fleet_core.contract.operations import Operation, Params
from fleet_core.contract.topics import (
    OPERATOR_REQUESTS,
    OPERATOR_RESPONSES,
    Kind,
    is_valid_id,
    parse,
)
from fleet_core.rules.chunks import Reassembly
from fleet_core.rules.loopback import require_loopback
from fleet_core.runtime.clock import now_utc
from fleet_core.runtime.mqtt import (
    Address,
    Connection,
    ConnectionLost,
    Delivery,
    Publication,
    SubscriptionRefused,
    connect,
)

DEFAULT_TENANT = "default"
MAX_REQUESTS_UNDER_WAY = 32
_DELIVERIES_AT_ONCE = 64
CONNECT_TIMEOUT_S = 10.0
# Not `codec.decode_as`: its limit on nesting is for what is stored, and an answer wraps what was.
_decoder = msgspec.json.Decoder(Response)


class _Pending:
    """One request under way: the chunks so far, and the future its asker waits on."""

    def __init__(self) -> None:
        self.reassembly = Reassembly()
        self.answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()

    def take(self, chunk: Chunk) -> None:
        """Add a chunk; the last one completes the answer, a contradiction ends it."""
        if self.answer.done():
            return
        try:
            self.reassembly.add(chunk)
            if self.reassembly.complete:
                self.answer.set_result(_decoder.decode(self.reassembly.text()))
        except (Rejected, msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            self.fail(_unreadable(str(error)))

    def fail(self, error: CommandFailed) -> None:
        """End the request, unless it has ended already."""
        if not self.answer.done():
            self.answer.set_exception(error)


class OperatorSession:
    """A live session. Made by `operator_session`."""

    def __init__(self, connection: Connection, address: Address, operator: str) -> None:
        self.operator = operator
        self._address = address
        self._connection = connection
        self._pending: dict[str, _Pending] = {}
        self._free = asyncio.Semaphore(MAX_REQUESTS_UNDER_WAY)
        self._lost: CommandFailed | None = None

    async def request(self, operation: Operation, params: Params, timeout_s: float = 10.0) -> Any:
        """Ask, and give the answer as an `operation.result`.

        Raises `RequestFailed` for the platform's error envelope or an unreadable answer,
        `NoAnswer` after `timeout_s` seconds, `BrokerUnreachable` when the connection breaks and
        `UsageFailed` for parameters the contract does not allow.
        """
        request_id = uuid.uuid4().hex
        payload = _encode_request(request_id, operation, params, timeout_s)
        topic = OPERATOR_REQUESTS.topic(self.operator, request_id)
        try:
            async with asyncio.timeout(timeout_s), self._free:
                response = await self._exchange(request_id, Publication(topic, payload))
        except TimeoutError:
            raise NoAnswer(operation.name, timeout_s) from None
        except ConnectionLost as error:
            raise BrokerUnreachable(str(error)) from error
        return _result(operation, response)

    def follow(self, tenant: str = DEFAULT_TENANT) -> AsyncGenerator[Change, None]:
        """The devices of a tenant as they are and as they change, until the consumer stops.

        On a connection of its own, so that a slow consumer holds back nothing else.
        """
        return follow(self._address, client_id(self.operator), tenant)

    async def pump(self) -> None:
        """Hand arriving chunks to the requests they answer, for as long as the connection lives."""
        try:
            while True:
                deliveries = await self._connection.receive(_DELIVERIES_AT_ONCE)
                for delivery in deliveries:
                    self._take(delivery)
                self._connection.acknowledge(deliveries)
        except ConnectionLost as error:
            self._lost = BrokerUnreachable(str(error))
            for pending in self._pending.values():
                pending.fail(BrokerUnreachable(str(error)))

    async def _exchange(self, request_id: str, question: Publication) -> Response:
        if self._lost is not None:
            raise self._lost
        pending = self._pending[request_id] = _Pending()
        try:
            await self._connection.publish(question)
            return await pending.answer
        finally:
            del self._pending[request_id]
            if not pending.answer.cancel():
                pending.answer.exception()  # asked for, so that asyncio does not complain

    def _take(self, delivery: Delivery) -> None:
        try:
            topic = parse(delivery.topic)
        except InvalidTopic:
            return
        if topic.template is not OPERATOR_RESPONSES or topic.identity != self.operator:
            return
        pending = self._pending.get(topic.key)
        if pending is None:
            return
        try:
            chunk = decode(OPERATOR_RESPONSES, delivery.payload)
        except Rejected as error:
            pending.fail(_unreadable(str(error)))
            return
        if isinstance(chunk, Chunk) and chunk.request_id == topic.key:
            pending.take(chunk)


@contextlib.asynccontextmanager
async def operator_session(
    url: str, operator: str = "operator.local", timeout_s: float = CONNECT_TIMEOUT_S
) -> AsyncIterator[OperatorSession]:
    """Connect within `timeout_s`, subscribe to the answers, and leave in order.

    `url` is `mqtt://host[:port]` of this machine; `operator` is the whole id. Raises `UsageFailed`
    for either of them and `BrokerUnreachable` when there is no broker.
    """
    address = check_target(url, operator)
    async with contextlib.AsyncExitStack() as stack:
        try:
            connection = await stack.enter_async_context(
                connect(
                    address,
                    client_id(operator),
                    clean_session=True,
                    timeout_s=timeout_s,
                )
            )
            await connection.subscribe([(OPERATOR_RESPONSES.filter(operator), 1)])
        except SubscriptionRefused as error:
            raise CommandFailed("denied", f"{operator}: {error}") from error
        except ConnectionLost as error:
            raise BrokerUnreachable(str(error)) from error
        session = OperatorSession(connection, address, operator)
        pump = asyncio.create_task(session.pump())
        try:
            yield session
        finally:
            pump.cancel()
            await asyncio.wait((pump,))
            if not pump.cancelled():
                pump.result()  # a bug in it is not to be missed


def check_target(url: str, operator: str) -> Address:
    """Where to connect to. Raises `UsageFailed` for a URL or an operator that can't be used."""
    if not is_valid_id(Kind.OPERATORS, operator):
        raise UsageFailed(
            f"{operator[:80]!r} is no operator id", "it looks like operator.alice: a-z, 0-9 and -"
        )
    try:
        address = Address.parse(url)
        require_loopback(address.host)
    except ConfigError as error:
        raise UsageFailed(str(error), "set --url or FLEET_BROKER_URL") from error
    return address


def client_id(operator: str) -> str:
    """A client id nobody else has: the operator, `~`, eight hexadecimal digits (design §2)."""
    return f"{operator}~{secrets.token_hex(4)}"


def _encode_request(
    request_id: str, operation: Operation, params: Params, timeout_s: float
) -> bytes:
    plain = msgspec.to_builtins(params)
    try:
        msgspec.convert(plain, operation.params)
    except msgspec.ValidationError as error:
        raise UsageFailed(f"{operation.name}: {error}") from error
    request = Request(
        request_id=request_id,
        operation=operation.name,
        expires_at=now_utc() + timedelta(seconds=timeout_s),
        params=plain,
    )
    payload = encode(request)
    if len(payload) > OPERATOR_REQUESTS.payload_limit_bytes:
        raise UsageFailed(
            f"the request has {len(payload)} bytes, "
            f"at most {OPERATOR_REQUESTS.payload_limit_bytes} are allowed",
            "ask for less at a time",
        )
    return payload


def _result(operation: Operation, response: Response) -> Any:
    if response.error is not None:
        error = response.error
        raise RequestFailed(error.code, error.message, error.hint, error.details)
    try:
        return msgspec.convert(response.result, operation.result)
    except msgspec.ValidationError as error:
        raise _unreadable(f"{operation.name}: {error}") from error


def _unreadable(reason: str) -> RequestFailed:
    return RequestFailed(
        "internal",
        f"the platform's answer can't be read: {reason}",
        "do `fleet` and the platform have the same version?",
    )
