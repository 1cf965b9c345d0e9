"""Requests of operators that changed something, so that one that comes twice acts once."""

from __future__ import annotations

from datetime import datetime

from fleet_core.registry.noun import Noun


class Requests(Noun):
    """Reads and writes `operator_requests`."""

    sql_file = "requests"

    async def find(self, operator_id: str, request_id: str) -> bytes | None:
        """The answer this request got, if it was seen before."""
        row = await self._row("find", {"operator_id": operator_id, "request_id": request_id})
        return bytes(row["response"]) if row else None

    async def insert(
        self,
        operator_id: str,
        request_id: str,
        *,
        operation: str,
        received_at: datetime,
        response: bytes,
    ) -> None:
        """Remember an answer."""
        await self._execute(
            "insert",
            {
                "operator_id": operator_id,
                "request_id": request_id,
                "operation": operation,
                "received_at": received_at,
                "response": response,
            },
        )
