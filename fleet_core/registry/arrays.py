"""Columns as PostgreSQL array literals, built in one pass each.

psycopg dumps a list element by element and took three quarters of the ingest process's time
(docs/adr/0006). A literal is one parameter, which the statement casts (`%(x)s::text[]`). Source:
PostgreSQL, section 8.15.2 (array value input).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

SMALLEST_REAL = 1e-37


def numbers(values: Iterable[float | None]) -> str:
    """Integers or finite floats.

    >>> numbers([1, None, 2.5])
    '{1,NULL,2.5}'
    """
    return "{" + ",".join(["NULL" if v is None else str(v) for v in values]) + "}"


def reals(values: Iterable[float | None]) -> str:
    """Floats that are not negative, for a column of type real. Next to nothing is nothing:
    PostgreSQL refuses what is too small for 32 bits.

    >>> reals([0.5, 1e-50, None])
    '{0.5,0.0,NULL}'
    """
    cells = ["NULL" if v is None else str(v) if v >= SMALLEST_REAL else "0.0" for v in values]
    return "{" + ",".join(cells) + "}"


def times(values: Iterable[datetime | None]) -> str:
    """Aware datetimes."""
    return "{" + ",".join(["NULL" if v is None else v.isoformat() for v in values]) + "}"


def booleans(values: Iterable[bool]) -> str:
    """Truth values."""
    return "{" + ",".join(["t" if v else "f" for v in values]) + "}"


def texts(values: Iterable[str | None]) -> str:
    r"""Any text, quoted; the same for what is written as text, such as uuid and jsonb.

    >>> print(texts(['a', None, 'say "hi"', 'back\\slash']))
    {"a",NULL,"say \"hi\"","back\\slash"}
    """
    quoted = [
        "NULL" if v is None else '"' + v.replace("\\", "\\\\").replace('"', '\\"') + '"'
        for v in values
    ]
    return "{" + ",".join(quoted) + "}"
