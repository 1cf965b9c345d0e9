"""Named SQL: each `sql/<noun>.sql` holds the statements of one noun, headed `-- name: <word>`.

`{name}` in a statement stands for another block of the same file, which is then no statement by
itself: what two statements share is written once.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

_HEADER = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)
_INCLUDE = re.compile(r"\{(\w+)\}")
_DIRECTORY = Path(__file__).parent / "sql"


@cache
def load(noun: str) -> dict[str, bytes]:
    """The statements of one noun by name. Raises `ValueError` for a name that stands twice."""
    parts = _HEADER.split((_DIRECTORY / f"{noun}.sql").read_text("utf-8"))
    names, bodies = parts[1::2], parts[2::2]
    if len(set(names)) != len(names):
        raise ValueError(f"{noun}.sql: a name stands twice")
    blocks = {name: body.strip() for name, body in zip(names, bodies, strict=True)}
    parts_of_others = {name for body in blocks.values() for name in _INCLUDE.findall(body)}
    return {
        name: _INCLUDE.sub(lambda match: _block(blocks, match), body).encode()
        for name, body in blocks.items()
        if name not in parts_of_others
    }


def _block(blocks: dict[str, str], match: re.Match[str]) -> str:
    """The block that `{name}` stands for; what is no block is filled in by Python."""
    return blocks.get(match[1], match[0])


def nouns() -> list[str]:
    """Every noun that has a file."""
    return sorted(path.stem for path in _DIRECTORY.glob("*.sql"))
