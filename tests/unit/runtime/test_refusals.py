"""Refusals are counted always, stored up to a limit, and logged once a minute."""

from __future__ import annotations

from typing import Any

import pytest
import structlog

from fleet_core.contract import errors
from fleet_core.contract.errors import InvalidTopic, PayloadTooLarge, Rejected, UnknownDevice
from fleet_core.contract.publication import Delivery
from fleet_core.registry.dead_letters import DeadLetter
from fleet_core.runtime.refusals import Refusals
from handlers.requests import RequestMismatch
from tests.fixtures.store import NOW, seconds


def refused(refusals: Refusals, error: Rejected, payload: bytes = b"{}") -> DeadLetter:
    return refusals.letter(Delivery("a/b", payload, retain=False, received_at=NOW), error)


def commit(refusals: Refusals, letters: list[DeadLetter], s: float) -> list[DeadLetter]:
    stored = refusals.storable(letters, seconds(s))
    refusals.committed(letters, len(stored), seconds(s))
    return stored


@pytest.mark.parametrize("size", [0, 7, 8, 9])
def test_a_payload_is_cut_at_the_limit_and_its_size_is_kept(size: int) -> None:
    letter = refused(Refusals(payload_limit_bytes=8, limit_per_minute=1), Rejected(), b"x" * size)
    assert (letter.payload, letter.size_bytes) == (b"x" * min(size, 8), size)


def test_a_letter_always_says_something() -> None:
    refusals = Refusals(payload_limit_bytes=8, limit_per_minute=1)
    assert refused(refusals, UnknownDevice()).detail == "unknown_device"
    assert refused(refusals, PayloadTooLarge(9, 8)).detail == "9 bytes, at most 8 are allowed"


def test_each_reason_is_logged_at_once_and_then_once_a_minute_with_its_count() -> None:
    refusals = Refusals(payload_limit_bytes=8, limit_per_minute=1000)
    topic, device = refused(refusals, InvalidTopic("x")), refused(refusals, UnknownDevice("y"))
    with structlog.testing.capture_logs() as logs:
        commit(refusals, [topic, topic, device], 0)
        commit(refusals, [topic] * 5, 59.9)
        commit(refusals, [topic], 60)
        commit(refusals, [topic] * 3, 61)
        commit(refusals, [topic], 120)
    seen = [(entry["reason"], entry["since_last"]) for entry in logs]
    assert seen == [
        ("invalid_topic", 1),
        ("unknown_device", 1),
        ("invalid_topic", 7),
        ("invalid_topic", 4),
    ]
    assert refusals.counts == {"invalid_topic": 12, "unknown_device": 1}


def test_the_limit_is_for_a_minute_and_only_what_was_committed_counts() -> None:
    refusals = Refusals(payload_limit_bytes=8, limit_per_minute=3)
    letters = [refused(refusals, InvalidTopic("x"))] * 2
    with structlog.testing.capture_logs():
        assert len(refusals.storable(letters, seconds(0))) == 2  # rolled back: never committed
        assert len(commit(refusals, letters, 1)) == 2
        assert len(commit(refusals, letters, 2)) == 1
        assert commit(refusals, letters, 59.9) == []
        assert len(commit(refusals, letters, 60)) == 2
    assert refusals.not_stored == 3


def _all(of: type[Rejected]) -> list[type[Rejected]]:
    return [of, *(found for below in of.__subclasses__() for found in _all(below))]


def test_every_reason_is_a_word_of_its_own() -> None:
    classes: list[Any] = _all(Rejected)
    assert {RequestMismatch, errors.HandlerFault, errors.ImplausibleTime} <= set(classes)
    reasons = [c.reason for c in classes]
    assert len(set(reasons)) == len(reasons)
    assert all(reason.isidentifier() and reason.islower() for reason in reasons)
