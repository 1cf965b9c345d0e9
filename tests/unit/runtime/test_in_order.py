"""Grouping a batch: every sender keeps its order, nothing is lost, and groups stay few."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_core.contract.publication import Delivery
from fleet_core.contract.topics import DEVICE_EVENTS, DEVICE_HEARTBEAT, DEVICE_STATUS
from fleet_core.registry.store import Transaction
from fleet_core.runtime.routes import Context, Inbound, Outcome, Route, in_order
from tests.fixtures.store import NOW


async def handle(_batch: object, _tx: Transaction, _context: Context) -> Outcome:
    raise AssertionError("grouping runs nothing")


STATUS, HEARTBEAT, EVENTS = (
    Route(template, handle_batch=handle)
    for template in (DEVICE_STATUS, DEVICE_HEARTBEAT, DEVICE_EVENTS)
)
Routed = tuple[Route, Inbound[int]]


def routed(route: Route, sender: str, number: int) -> Routed:
    return route, Inbound(sender, "", number, Delivery("", b"", retain=False, received_at=NOW))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([STATUS, HEARTBEAT, EVENTS]), st.sampled_from("abcde"))),
)
def test_senders_keep_their_order_and_nothing_is_lost_or_doubled(
    choices: list[tuple[Route, str]],
) -> None:
    messages = [routed(route, sender, n) for n, (route, sender) in enumerate(choices)]
    groups = in_order(messages)
    flat = [(route, inbound) for route, batch in groups for inbound in batch]
    assert sorted(flat, key=lambda m: m[1].message) == messages
    told, kept = defaultdict(list), defaultdict(list)
    for _, inbound in messages:
        told[inbound.identity].append(inbound.message)
    for _, inbound in flat:
        kept[inbound.identity].append(inbound.message)
    assert told == kept
    assert all(batch for _, batch in groups)


def test_nothing_is_no_group() -> None:
    assert in_order([]) == []


def test_one_topic_is_one_group_in_order_of_arrival() -> None:
    messages = [routed(HEARTBEAT, f"gw-{n % 7}", n) for n in range(100)]
    ((route, batch),) = in_order(messages)
    assert route is HEARTBEAT
    assert [inbound.message for inbound in batch] == list(range(100))


def test_a_mass_reconnect_is_few_groups() -> None:
    """A thousand devices come back, each with birth, heartbeat, and what it kept; interleaved."""
    words = (STATUS, HEARTBEAT, EVENTS, HEARTBEAT)
    told = sorted(
        (step + device % 5, device, step) for device in range(1000) for step in range(len(words))
    )
    messages = [routed(words[step], f"gw-{device}", n) for n, (_, device, step) in enumerate(told)]
    assert len(in_order(messages)) <= len(words) + 2


def test_a_sender_that_changes_topics_with_every_message_slows_nobody_else() -> None:
    restless = [routed((STATUS, EVENTS)[n % 2], "restless", n) for n in range(200)]
    others = [routed(HEARTBEAT, f"gw-{n}", 1000 + n) for n in range(200)]
    mixed = [m for pair in zip(restless, others, strict=True) for m in pair]
    groups = in_order(mixed)
    assert len([batch for route, batch in groups if route is HEARTBEAT]) == 1
    assert len(groups) <= len(restless) + 1


def test_a_route_has_exactly_one_handler() -> None:
    with pytest.raises(ValueError, match="one handler"):
        Route(DEVICE_STATUS)
    with pytest.raises(ValueError, match="one handler"):
        Route(DEVICE_STATUS, handle=handle, handle_batch=handle)
