"""Hostile operators: every request that can be answered is, with a result or an error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from fleet_core.contract.codec import decode_as
from fleet_core.contract.messages import Chunk
from fleet_core.contract.topics import OPERATOR_REQUESTS, OPERATOR_RESPONSES, PAYLOAD_LIMIT_BYTES
from fleet_core.runtime.mqtt import Address, Connection, Publication, connect
from tests.faults.stage import HOSTILE_IDS, NESTED, OTHERS, Stage, Values, padded, run_stage
from tests.fixtures.brokers import start_mosquitto
from tests.fixtures.eventually import eventually
from tests.fixtures.platform import RunningPostgres


@pytest.fixture(scope="module")
def module_stage(fragile_server: RunningPostgres) -> Iterator[Stage]:
    with run_stage(fragile_server, start_mosquitto) as stage:
        yield stage


@pytest.fixture
async def stage(module_stage: Stage) -> Stage:
    await module_stage.is_ready()
    return module_stage


OPERATOR = "operator.mallory"
HOSTILE_REQUESTS: dict[str, tuple[Values, str]] = {
    "SQL in a text": (
        {"operation": "device.list", "params": {"text": "'; DROP TABLE devices; --%_\\"}},
        "",
    ),
    "SQL in an id": (
        {"operation": "device.show", "params": {"device_id": "gw-0001' OR '1'='1"}},
        "not_found",
    ),
    "wildcard in an id": (
        {"operation": "device.events", "params": {"device_id": "+/#/../$SYS"}},
        "not_found",
    ),
    "hostile ids to register": (
        {
            "operation": "device.register",
            "params": {"devices": [{"device_id": "a/+/\u202e", "name": "x", "site": "y"}]},
        },
        "usage",
    ),
    "SQL to sort by": (
        {"operation": "device.list", "params": {"sort": "id; DROP TABLE devices"}},
        "usage",
    ),
    "an offset of 2^63 - 1": (
        {"operation": "device.list", "params": {"offset": 2**63 - 1, "limit": 1000}},
        "",
    ),
    "an offset of 2^63": ({"operation": "device.list", "params": {"offset": 2**63}}, "usage"),
    "a dead letter of 2^63 - 1": (
        {"operation": "dead-letters.show", "params": {"id": 2**63 - 1}},
        "not_found",
    ),
    "a dead letter of 10^30": (
        {"operation": "dead-letters.show", "params": {"id": 10**30}},
        "usage",
    ),
    "an unknown parameter": ({"operation": "fleet.status", "params": {"x": 1}}, "usage"),
    "an unknown operation": ({"operation": "device.explode"}, "usage"),
    "expired": ({"operation": "fleet.status", "expires_at": "1999-01-01T00:00:00Z"}, "timeout"),
    "expires in 2199": ({"operation": "fleet.status", "expires_at": "2199-01-01T00:00:00Z"}, ""),
}


def request(request_id: str, **changes: Any) -> bytes:
    values = {"operation": "fleet.status", "expires_at": "2199-01-01T00:00:00Z", "params": {}}
    return json.dumps({"request_id": request_id, **values, **changes}).encode()


async def ask(stage: Stage, request_id: str, **changes: Any) -> Values:
    """The answer to a request."""
    topic = OPERATOR_REQUESTS.topic(OPERATOR, request_id)
    address = Address.parse(stage.broker.url)
    async with connect(address, OPERATOR, clean_session=True) as connection:
        await connection.subscribe([(OPERATOR_RESPONSES.filter(OPERATOR), 1)])
        await connection.publish(Publication(topic, request(request_id, **changes)))
        return await _answer(connection)


async def _answer(connection: Connection) -> Values:
    chunks: list[Chunk] = []
    while not chunks or len(chunks) < chunks[0].total_chunks:
        deliveries = await connection.receive(100)
        chunks += [decode_as(Chunk, delivery.payload) for delivery in deliveries]
    answer: Values = json.loads("".join(chunk.payload for chunk in chunks))
    return answer


@pytest.mark.parametrize("number", range(len(HOSTILE_REQUESTS)), ids=HOSTILE_REQUESTS)
async def test_a_hostile_request_gets_an_answer(stage: Stage, number: int) -> None:
    changes, code = [*HOSTILE_REQUESTS.values()][number]
    answer = await ask(stage, f"hostile-{number}", **changes)
    assert answer.get("error", {}).get("code", "") == code, answer
    status = await ask(stage, f"good-{number}")
    assert status["result"]["devices"] == 1 + len(OTHERS)


BAD_REQUESTS = {
    "no JSON": b"x",
    "deep nesting": request("r1", params={"a": "HERE"}).replace(b'"HERE"', NESTED.encode()),
    "NUL": request("r1", params={"text": "\0"}),
    "no operation": request("r1", operation="x"),
    "operation with SQL": request("r1", operation="device.list'; --"),
    "another id than the topic's": request("r2"),
    "request id with a slash": request("a/b"),
    "request id with a wildcard": request("+"),
    "too long": padded(request("r1"), PAYLOAD_LIMIT_BYTES + 1),
}


@pytest.mark.parametrize("payload", BAD_REQUESTS.values(), ids=BAD_REQUESTS.keys())
async def test_a_request_that_can_not_be_answered_is_a_dead_letter(
    stage: Stage, payload: bytes
) -> None:
    before = len(stage.letters())
    await stage.publish_raw(OPERATOR_REQUESTS.topic(OPERATOR, "r1").encode(), payload)
    await eventually(lambda: len(stage.letters()) == before + 1)
    assert (await ask(stage, "good"))["result"]["devices"] == 1 + len(OTHERS)


@pytest.mark.parametrize("identity", HOSTILE_IDS.values(), ids=HOSTILE_IDS.keys())
async def test_a_request_from_a_hostile_id_does_no_harm(stage: Stage, identity: bytes) -> None:
    for topic in (
        b"fleet/v1/operators/%s/up/requests/r1" % identity,
        b"fleet/v1/operators/operator.mallory/up/requests/" + identity,
    ):
        await stage.publish_raw(topic, request("r1"))
    assert (await ask(stage, "good"))["result"]["devices"] == 1 + len(OTHERS)
