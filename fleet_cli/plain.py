"""Structs to plain JSON values, complete: a default is written too, so that keys never vanish.

Times become RFC 3339 in UTC, as every machine format has them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import Enum
from typing import Any

import msgspec


def to_plain(value: Any) -> Any:
    """`value` in terms of dict, list, str, int, float, bool and None.

    >>> to_plain({"at": datetime(2030, 1, 1, tzinfo=UTC)})
    {'at': '2030-01-01T00:00:00Z'}
    """
    if isinstance(value, msgspec.Struct):
        return {name: to_plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, Enum):
        return value.value
    return value


def rfc3339(moment: datetime) -> str:
    """An aware time in UTC with `Z`; a naive one is taken as UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return aware.astimezone(UTC).isoformat().replace("+00:00", "Z")
