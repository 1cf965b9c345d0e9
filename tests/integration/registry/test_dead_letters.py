"""Dead letters: whatever was refused can be stored, and found."""

from __future__ import annotations

import pytest

from fleet_core.registry.dead_letters import DETAIL_LIMIT, TOPIC_LIMIT, DeadLetter
from fleet_core.registry.store import Registry
from tests.fixtures.store import seconds


def letter(topic: str = "a/b", detail: str = "d", payload: bytes = b"p", **more: str) -> DeadLetter:
    reason = more.get("reason", "invalid_topic")
    return DeadLetter(seconds(0), topic, reason, detail, payload, len(payload))


async def store(registry: Registry, *letters: DeadLetter) -> list[int]:
    async with registry.transaction() as tx:
        await tx.dead_letters.insert(letters)
        rows = await tx.dead_letters.page(reason="", topic="", limit=1000, offset=0)
    return [row["id"] for row in rows]


@pytest.mark.parametrize(
    ("raw", "stored"),
    [
        ("plain", "plain"),
        ("a\0b", "a\N{REPLACEMENT CHARACTER}b"),
        ("a\ud800b", "a?b"),
        ("\udcff", "?"),
        ("a\r\nb\x1b", "a\r\nb\x1b"),
        ("'; DROP TABLE dead_letters; --", "'; DROP TABLE dead_letters; --"),
        ('{"NULL",\\}', '{"NULL",\\}'),
        ("\N{RIGHT-TO-LEFT OVERRIDE}漢\U0001f600", "\N{RIGHT-TO-LEFT OVERRIDE}漢\U0001f600"),
        ("", ""),
    ],
    ids=ascii,
)
async def test_any_text_is_cleaned_and_stored(registry: Registry, raw: str, stored: str) -> None:
    (letter_id,) = await store(registry, letter(raw, raw))
    async with registry.transaction() as tx:
        row = await tx.dead_letters.get(letter_id)
    assert row is not None
    assert (row["topic"], row["detail"]) == (stored, stored)


async def test_long_text_is_cut_at_its_limit(registry: Registry) -> None:
    (letter_id,) = await store(registry, letter("\0" * 5000, "\U0001f600" * 5000))
    async with registry.transaction() as tx:
        row = await tx.dead_letters.get(letter_id)
    assert row is not None
    assert (len(row["topic"]), len(row["detail"])) == (TOPIC_LIMIT, DETAIL_LIMIT)


@pytest.mark.parametrize("payload", [b"", bytes(range(256)), b"\\x00\0'\"{}", b"x" * 98_304])
async def test_any_payload_is_stored(registry: Registry, payload: bytes) -> None:
    (letter_id,) = await store(registry, letter(payload=payload))
    async with registry.transaction() as tx:
        row = await tx.dead_letters.get(letter_id)
    assert row is not None
    assert (bytes(row["payload"]), row["size_bytes"]) == (payload, len(payload))


async def test_the_list_is_newest_first_by_reason_and_by_part_of_the_topic(
    registry: Registry,
) -> None:
    await store(registry)
    ids = await store(
        registry,
        letter("fleet/v1/x"),
        letter("fleet/v1/y", reason="unknown_device"),
        letter("100%", reason="unknown_device"),
    )
    assert ids == sorted(ids, reverse=True)
    async with registry.transaction() as tx:

        async def found(reason: str = "", topic: str = "") -> list[str]:
            rows = await tx.dead_letters.page(reason=reason, topic=topic, limit=10, offset=0)
            assert await tx.dead_letters.count(reason=reason, topic=topic) == len(rows)
            return [row["topic"] for row in rows]

        assert await found() == ["100%", "fleet/v1/y", "fleet/v1/x"]
        assert await found("unknown_device") == ["100%", "fleet/v1/y"]
        assert await found(topic="v1/") == ["fleet/v1/y", "fleet/v1/x"]
        assert await found(topic="%") == ["100%"]
        assert await found(topic="_") == []
        assert await found("unknown_device", "v1") == ["fleet/v1/y"]
        assert await found("unknown") == []
        page = await tx.dead_letters.page(reason="", topic="", limit=1, offset=1)
        assert [row["topic"] for row in page] == ["fleet/v1/y"]
        assert await tx.dead_letters.get(2**63 - 1) is None
