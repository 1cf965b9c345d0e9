"""Dead letters: messages that were refused, and why."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from fleet_core.registry.noun import Noun

TOPIC_LIMIT = 1024
DETAIL_LIMIT = 1024


class DeadLetter(msgspec.Struct, frozen=True):
    """A refused message. `payload` may be cut; `size_bytes` is what arrived."""

    received_at: datetime
    topic: str
    reason: str
    detail: str
    payload: bytes
    size_bytes: int


class DeadLetters(Noun):
    """Reads and writes `dead_letters`."""

    sql_file = "dead_letters"

    async def insert(self, letters: Sequence[DeadLetter]) -> None:
        """Store refused messages. Text is cleaned first: nothing may be refused in its turn."""
        if not letters:
            return
        await self._execute(
            "insert",
            {
                "received_ats": [letter.received_at for letter in letters],
                "topics": [_clean(letter.topic)[:TOPIC_LIMIT] for letter in letters],
                "reasons": [letter.reason for letter in letters],
                "details": [_clean(letter.detail)[:DETAIL_LIMIT] for letter in letters],
                "payloads": [letter.payload for letter in letters],
                "sizes": [letter.size_bytes for letter in letters],
            },
        )

    async def page(
        self, *, reason: str, topic: str, limit: int, offset: int
    ) -> list[dict[str, Any]]:
        """A page, newest first; `topic` is a part of the topic."""
        parameters = {"reason": reason, "topic": topic, "limit": limit, "offset": offset}
        return await self._rows("page", parameters)

    async def count(self, *, reason: str, topic: str) -> int:
        """How many match in all."""
        row = await self._row("count", {"reason": reason, "topic": topic})
        return int(row["total"]) if row else 0

    async def get(self, letter_id: int) -> dict[str, Any] | None:
        """One dead letter with its payload."""
        return await self._row("get", {"id": letter_id})


def _clean(text: str) -> str:
    """Text that PostgreSQL takes: no U+0000, no lone surrogates."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
