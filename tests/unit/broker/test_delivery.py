"""What a client is owed: in order, once acknowledged never again, and never without bound."""

from __future__ import annotations

import pytest

from broker import delivery
from broker.delivery import DeliveryQueue, Message


def message(text: str) -> Message:
    return Message(topic="a", payload=text.encode(), qos=1)


def drain(queue: DeliveryQueue) -> list[tuple[int, Message]]:
    sent = []
    while queue.ready:
        sent.append(queue.next())
    return sent


def test_messages_leave_in_order_with_ids_of_their_own() -> None:
    queue = DeliveryQueue()
    for text in "abc":
        assert queue.add(message(text))
    assert [(i, m.payload) for i, m in drain(queue)] == [(1, b"a"), (2, b"b"), (3, b"c")]


def test_what_is_not_acknowledged_stays_in_the_old_order() -> None:
    queue = DeliveryQueue()
    for text in "abcd":
        queue.add(message(text))
    drain(queue)
    assert queue.acknowledge(2)
    assert not queue.acknowledge(2)
    assert not queue.acknowledge(99)
    assert [(i, m.payload) for i, m in queue.unacknowledged()] == [(1, b"a"), (3, b"c"), (4, b"d")]
    assert len(queue) == 3


def test_a_full_window_makes_the_rest_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "MAX_INFLIGHT_MESSAGES", 2)
    queue = DeliveryQueue()
    for text in "abc":
        queue.add(message(text))
    assert len(drain(queue)) == 2
    queue.acknowledge(1)
    assert [m.payload for _, m in drain(queue)] == [b"c"]


def test_a_full_queue_drops_the_newest_and_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "MAX_WAITING_MESSAGES", 2)
    queue = DeliveryQueue()
    assert [queue.add(message(text)) for text in "abcd"] == [True, True, False, False]
    assert queue.dropped_count == 2
    assert [m.payload for _, m in drain(queue)] == [b"a", b"b"]


def test_bytes_are_limited_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "MAX_WAITING_BYTES", 10)
    queue = DeliveryQueue()
    assert [queue.add(message("x" * 5)) for _ in range(3)] == [True, True, False]
    queue.next()
    assert queue.add(message("x" * 5))


def test_packet_ids_wrap_and_skip_those_that_are_on_the_way() -> None:
    queue = DeliveryQueue()
    queue.add(message("first"))
    assert queue.next()[0] == 1
    for _ in range(delivery.MAX_PACKET_ID - 1):
        queue.add(message("x"))
        queue.acknowledge(queue.next()[0])
    queue.add(message("wrapped"))
    assert queue.next()[0] == 2
