"""Requests of operators: every `fleet` command arrives here and is answered in chunks.

- An answer is a result or an error envelope; nothing an operator sends is a dead letter as long as
  its shape lets it be answered.
- A request that changed something is remembered: when it comes again it gets the same answer and
  is not carried out again.
- A request past its expiry is not carried out.
"""

from __future__ import annotations

import msgspec

from fleet_core.contract import codec
from fleet_core.contract.errors import Rejected
from fleet_core.contract.messages import ErrorBody, Request, Response
from fleet_core.contract.operations import OPERATIONS, ErrorCode, Operation, Params
from fleet_core.contract.publication import Publication, publication
from fleet_core.contract.topics import OPERATOR_RESPONSES
from fleet_core.registry.store import Transaction
from fleet_core.rules.chunks import MAX_ANSWER_BYTES, split
from fleet_core.runtime.routes import Context, Inbound, Outcome
from handlers.operations import IMPLEMENTATIONS, Refused


class RequestMismatch(Rejected):
    """The request id of the payload is not that of the topic."""

    reason = "request_mismatch"


async def handle(inbound: Inbound[Request], tx: Transaction, context: Context) -> Outcome:
    """Answer one request."""
    request = inbound.message
    if request.request_id != inbound.key:
        raise RequestMismatch(f"topic says {inbound.key}, payload {request.request_id}")
    remembered = await tx.requests.find(inbound.identity, request.request_id)
    if remembered is not None:
        return Outcome(publish=_chunks(inbound, remembered))
    answer = codec.encode(await _answer(inbound, tx, context))
    if len(answer) > MAX_ANSWER_BYTES:
        answer = codec.encode(_error(ErrorCode.USAGE, "the answer is too long; ask for less of it"))
    operation = OPERATIONS.get(request.operation)
    if operation is not None and operation.mutates:
        await tx.requests.insert(
            inbound.identity,
            request.request_id,
            operation=request.operation,
            received_at=inbound.received_at,
            response=answer,
        )
    return Outcome(publish=_chunks(inbound, answer))


def apologise(inbound: Inbound[Request]) -> list[Publication]:
    """What an operator is told when carrying out a request failed on our side."""
    error = _error(
        ErrorCode.INTERNAL,
        "the platform failed to carry out the request",
        "its log and `fleet dead-letters list` say why",
    )
    return _chunks(inbound, codec.encode(error))


async def _answer(inbound: Inbound[Request], tx: Transaction, context: Context) -> Response:
    request = inbound.message
    if request.expires_at <= context.clock():
        return _error(ErrorCode.TIMEOUT, "the request had expired before it could be carried out")
    operation = OPERATIONS.get(request.operation)
    if operation is None:
        return _error(ErrorCode.USAGE, f"there is no operation {request.operation!r}")
    try:
        params = _params(operation, request)
        async with tx.savepoint():
            result = await IMPLEMENTATIONS[operation.name](params, tx, context)
    except Refused as refusal:
        return Response(error=refusal.body)
    return Response(result=result)


def _params(operation: Operation, request: Request) -> Params:
    try:
        return msgspec.convert(request.params, operation.params)
    except msgspec.ValidationError as error:
        raise Refused(ErrorCode.USAGE, f"{operation.name}: {error}") from error


def _chunks(inbound: Inbound[Request], answer: bytes) -> list[Publication]:
    request_id = inbound.message.request_id
    return [
        publication(OPERATOR_RESPONSES, inbound.identity, chunk, key=request_id)
        for chunk in split(request_id, answer.decode())
    ]


def _error(code: ErrorCode, message: str, hint: str = "") -> Response:
    return Response(error=ErrorBody(code=code.value, message=message, hint=hint))
