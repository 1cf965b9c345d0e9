"""Named SQL: each `sql/<noun>.sql` holds the statements of one noun, headed `-- name: <word>`."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

_HEADER = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)
_DIRECTORY = Path(__file__).parent / "sql"


@cache
def load(noun: str) -> dict[str, bytes]:
    """The statements of one noun by name. Raises `ValueError` for a name that stands twice."""
    parts = _HEADER.split((_DIRECTORY / f"{noun}.sql").read_text("utf-8"))
    names, bodies = parts[1::2], parts[2::2]
    if len(set(names)) != len(names):
        raise ValueError(f"{noun}.sql: a name stands twice")
    return {name: body.strip().encode() for name, body in zip(names, bodies, strict=True)}


def nouns() -> list[str]:
    """Every noun that has a file."""
    return sorted(path.stem for path in _DIRECTORY.glob("*.sql"))
