"""What every noun of the registry shares: a connection and its named statements."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg.rows import dict_row

from fleet_core.registry import queries


class Noun:
    """Base of the classes that hold the statements of one noun. `sql_file` names their file."""

    sql_file = ""

    def __init__(self, connection: psycopg.AsyncConnection) -> None:
        self._connection = connection

    def _statement(self, name: str) -> bytes:
        # Bytes: psycopg takes them as they are. They come from our files, never from a message.
        return queries.load(self.sql_file)[name]

    async def _execute(self, name: str, parameters: Mapping[str, Any]) -> int:
        """Run a statement; the number of rows it touched."""
        cursor = await self._connection.execute(self._statement(name), parameters)
        return cursor.rowcount

    async def _rows(
        self, name: str, parameters: Mapping[str, Any], *, order: str = ""
    ) -> list[dict[str, Any]]:
        """Run a query; its rows as dictionaries. `order` is an ORDER BY term from our own table."""
        statement = self._statement(name)
        if order:
            statement = statement.replace(b"{order}", order.encode())
        async with self._connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(statement, parameters)
            return await cursor.fetchall()

    async def _row(self, name: str, parameters: Mapping[str, Any]) -> dict[str, Any] | None:
        """Run a query; its first row."""
        rows = await self._rows(name, parameters)
        return rows[0] if rows else None
