"""A small YAML emitter for plain JSON values: block style, every text quoted as in JSON.

Quoting everything keeps `no`, `1e3` and `2030-01-01` texts in YAML 1.1 and 1.2 alike. A JSON string
is a valid double-quoted scalar in both. Source: YAML 1.2.2, chapter 5.7 and 10.3.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from fleet_cli.safe_text import escape_json

_PLAIN_KEY = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_WORDS = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})


def to_yaml(value: Any) -> str:
    """The YAML of plain JSON values, with a final newline.

    >>> to_yaml({"name": "no", "tags": {}, "ids": [1]})
    'name: "no"\\ntags: {}\\nids:\\n  - 1\\n'
    """
    if not _is_block(value):
        return f"{_scalar(value)}\n"
    return "".join(f"{line}\n" for line in _block(value))


def _is_block(value: Any) -> bool:
    return isinstance(value, dict | list) and bool(value)


def _block(value: Any) -> Iterator[str]:
    return _sequence(value) if isinstance(value, list) else _mapping(value)


def _mapping(value: dict[str, Any]) -> Iterator[str]:
    for key, item in value.items():
        if _is_block(item):
            yield f"{_key(key)}:"
            yield from (f"  {line}" for line in _block(item))
        else:
            yield f"{_key(key)}: {_scalar(item)}"


def _sequence(value: list[Any]) -> Iterator[str]:
    for item in value:
        if _is_block(item):
            lines = _block(item)
            yield f"- {next(lines)}"
            yield from (f"  {line}" for line in lines)
        else:
            yield f"- {_scalar(item)}"


def _key(key: str) -> str:
    return key if _PLAIN_KEY.fullmatch(key) and key not in _WORDS else _quoted(key)


def _scalar(value: Any) -> str:
    if isinstance(value, float):
        text = repr(value)  # YAML 1.1 wants a point before an exponent
        return text.replace("e", ".0e", 1) if "e" in text and "." not in text else text
    return _quoted(value)


def _quoted(value: Any) -> str:
    return escape_json(msgspec.json.encode(value).decode())
