"""Requests of operators: answered once, carried out at most once."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from fleet_core.contract import operations as contract
from fleet_core.contract.codec import decode, encode
from fleet_core.contract.messages import Chunk, Request, Response
from fleet_core.contract.operations import MAX_REGISTRATIONS, MAX_TAGS
from fleet_core.contract.publication import Publication
from fleet_core.contract.topics import OPERATOR_REQUESTS, OPERATOR_RESPONSES
from fleet_core.registry.store import Transaction
from fleet_core.rules.chunks import MAX_ANSWER_BYTES, Reassembly
from fleet_core.runtime.routes import Context, Inbound, Outcome
from handlers import requests
from handlers.operations import IMPLEMENTATIONS, Refused
from handlers.requests import RequestMismatch
from tests.fixtures.store import MemoryRegistry, context, inbound, seconds

ALICE, BOB = "operator.alice", "operator.bob"


def new(device_id: str, **more: Any) -> dict[str, Any]:
    return {"device_id": device_id, "name": "Gateway", "site": "berlin", **more}


def asked(
    operation: str = "device.register",
    params: dict[str, Any] | None = None,
    *,
    operator: str = ALICE,
    request_id: str = "r-1",
    expires_s: float = 60,
    key: str = "",
) -> Inbound[Request]:
    request = Request(
        request_id=request_id,
        operation=operation,
        expires_at=seconds(expires_s),
        params={"devices": [new("gw-1")]} if params is None else params,
    )
    return inbound(OPERATOR_REQUESTS, operator, request, key=key or request_id)


async def handle(registry: MemoryRegistry, message: Inbound[Request]) -> Outcome:
    async with registry.transaction() as tx:
        return await requests.handle(message, tx, context())


def answer(outcome: Outcome) -> Response:
    """The answer in `outcome`, read as an operator reads it."""
    whole = Reassembly()
    for publication in outcome.publish:
        chunk = decode(OPERATOR_RESPONSES, publication.payload)
        assert isinstance(chunk, Chunk)
        whole.add(chunk)
    assert whole.complete
    response = msgspec.json.decode(whole.text(), type=Response)
    assert (outcome.owe, outcome.rejected) == ([], [])
    return response


def error_code(outcome: Outcome) -> str:
    error = answer(outcome).error
    assert error is not None
    assert error.message
    return error.code


async def test_an_answer_goes_to_the_one_who_asked() -> None:
    registry = MemoryRegistry()
    outcome = await handle(registry, asked())
    assert answer(outcome).result == {"registered": ["gw-1"], "existing": []}
    assert {p.topic for p in outcome.publish} == {OPERATOR_RESPONSES.topic(ALICE, "r-1")}
    assert all(isinstance(p, Publication) and not p.retain and p.qos == 1 for p in outcome.publish)
    assert registry.tables.live_changes == ["gw-1"]


async def test_a_request_that_comes_twice_gets_the_same_answer_and_acts_once() -> None:
    registry = MemoryRegistry()
    first = await handle(registry, asked())
    second = await handle(registry, asked())
    assert first.publish == second.publish
    assert registry.tables.live_changes == ["gw-1"]
    assert len(registry.tables.requests) == 1


async def test_the_same_id_of_somebody_else_is_another_request() -> None:
    registry = MemoryRegistry()
    await handle(registry, asked())
    outcome = await handle(registry, asked(operator=BOB))
    assert error_code(outcome) == "conflict"
    assert set(registry.tables.requests) == {(ALICE, "r-1"), (BOB, "r-1")}


async def test_a_refusal_of_something_that_would_change_is_remembered_too() -> None:
    registry = MemoryRegistry("gw-1")
    first = await handle(registry, asked())
    del registry.tables.devices["gw-1"]
    assert (await handle(registry, asked())).publish == first.publish
    assert registry.tables.devices == {}


async def test_a_question_is_not_remembered() -> None:
    registry = MemoryRegistry()
    message = asked("device.show", {"device_id": "gw-9"})
    assert error_code(await handle(registry, message)) == "not_found"
    assert registry.tables.requests == {}


@pytest.mark.parametrize("expires_s", [0, -1, -1e6])
async def test_an_expired_request_is_not_carried_out(expires_s: float) -> None:
    registry = MemoryRegistry()
    assert error_code(await handle(registry, asked(expires_s=expires_s))) == "timeout"
    assert registry.tables.devices == {}


async def test_a_request_that_waited_past_its_expiry_is_not_carried_out() -> None:
    """It arrived in time and was held while the database was away; its sender has long left."""
    registry = MemoryRegistry()
    async with registry.transaction() as tx:
        outcome = await requests.handle(asked(expires_s=10), tx, context(lambda: seconds(300)))
    assert error_code(outcome) == "timeout"
    assert registry.tables.devices == {}


async def test_a_request_is_carried_out_up_to_its_expiry() -> None:
    registry = MemoryRegistry()
    await handle(registry, asked(expires_s=0.001))
    assert set(registry.tables.devices) == {"gw-1"}


@pytest.mark.parametrize("operation", ["device.explode", "device.__class__", "x.y"])
async def test_an_unknown_operation_is_answered(operation: str) -> None:
    registry = MemoryRegistry()
    assert error_code(await handle(registry, asked(operation))) == "usage"
    assert registry.tables.requests == {}


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"devices": []},
        {"devices": [new("gw-1")], "force": True},
        {"devices": [new("gw-1", colour="red")]},
        {"devices": [new("gw-1", name="")]},
        {"devices": [new("gw-1", name="x" * 129)]},
        {"devices": [new("gw-1", site="x" * 65)]},
        {"devices": [new("gw-1", tags={"a b": "c"})]},
        {"devices": [new("gw-1", tags={"-a": "c"})]},
        {"devices": [new("gw-1", tags={"a": "x" * 129})]},
        {"devices": [new("gw-1", tags={"a": 1})]},
        {"devices": [new("gw-1", tags={f"k{n}": "" for n in range(MAX_TAGS + 1)})]},
        {"devices": [new(f"gw-{n}") for n in range(MAX_REGISTRATIONS + 1)]},
        {"devices": [new("gw-1"), new("gw-1")]},
        {"devices": [new("GW-1")]},
        {"devices": [new("service.x")]},
        {"devices": [new("gw-1\n")]},
        {"devices": [new("'; DROP TABLE devices; --")]},
        {"devices": "gw-1"},
    ],
    ids=lambda p: str(p)[:40],
)
async def test_senseless_parameters_are_answered_and_nothing_is_registered(
    params: dict[str, Any],
) -> None:
    registry = MemoryRegistry()
    assert error_code(await handle(registry, asked(params=params))) == "usage"
    assert registry.tables.devices == {}


async def test_the_most_that_may_be_registered_at_once() -> None:
    registry = MemoryRegistry()
    tags = {f"k{n}": "v" for n in range(MAX_TAGS)}
    devices = [new(f"gw-{n:03}", tags=tags) for n in range(MAX_REGISTRATIONS)]
    outcome = await handle(registry, asked(params={"devices": devices}))
    assert len(answer(outcome).result["registered"]) == MAX_REGISTRATIONS


async def test_an_id_that_is_taken_refuses_all_and_undoes_what_was_written() -> None:
    registry = MemoryRegistry("gw-2")
    params = {"devices": [new("gw-1"), new("gw-2"), new("gw-3")]}
    response = answer(await handle(registry, asked(params=params)))
    assert response.error is not None
    assert (response.error.code, response.error.details) == ("conflict", {"existing": ["gw-2"]})
    assert set(registry.tables.devices) == {"gw-2"}
    assert registry.tables.live_changes == []
    assert len(registry.tables.requests) == 1


async def test_an_id_that_is_taken_can_be_skipped() -> None:
    registry = MemoryRegistry("gw-2")
    params = {"devices": [new("gw-1"), new("gw-2")], "skip_existing": True}
    result = answer(await handle(registry, asked(params=params))).result
    assert result == {"registered": ["gw-1"], "existing": ["gw-2"]}
    assert registry.tables.live_changes == ["gw-1"]


async def test_a_payload_with_another_id_than_its_topic_is_rejected() -> None:
    registry = MemoryRegistry()
    with pytest.raises(RequestMismatch):
        await handle(registry, asked(key="r-2"))
    assert registry.tables.devices == {}


async def test_a_long_answer_comes_in_chunks_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(IMPLEMENTATIONS, "device.list", _answering(200_000))
    outcome = await handle(MemoryRegistry(), asked("device.list", {}))
    assert len(outcome.publish) > 2
    assert len(answer(outcome).result["registered"][0]) == 200_000


async def test_an_answer_nobody_could_put_together_is_refused_in_a_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was sent in hundreds of chunks, and the operator's side gave up at its limit."""
    monkeypatch.setitem(IMPLEMENTATIONS, "device.list", _answering(MAX_ANSWER_BYTES))
    outcome = await handle(MemoryRegistry(), asked("device.list", {}))
    assert error_code(outcome) == "usage"
    assert len(outcome.publish) == 1


async def test_what_a_refused_operation_wrote_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def implementation(_params: Any, tx: Transaction, _context: Context) -> contract.Result:
        await tx.devices.register("default", [contract.NewDevice(**new("gw-7"))])
        raise Refused(contract.ErrorCode.DENIED, "no", "a hint", n=1)

    monkeypatch.setitem(IMPLEMENTATIONS, "device.register", implementation)
    registry = MemoryRegistry()
    response = answer(await handle(registry, asked()))
    assert encode(response.error) == encode(
        {"code": "denied", "message": "no", "hint": "a hint", "details": {"n": 1}}
    )
    assert registry.tables.devices == {}


def _answering(length: int) -> Any:
    async def implementation(_params: Any, _tx: Any, _context: Any) -> contract.Result:
        return contract.DeviceRegistered(registered=["x" * length])

    return implementation


def test_a_failure_of_ours_is_answered_as_internal() -> None:
    response = answer(Outcome(publish=requests.apologise(asked(request_id="r-9"))))
    assert response.error is not None
    assert response.error.code == "internal"
    assert "dead-letters" in response.error.hint
