"""Bytes to messages and back, with every way a payload can be bad turned into one error.

Limits first, then JSON, then shape, then what JSON allows but PostgreSQL can't hold. Source of the
cases: the payload family of the fault list (`tests/unit/contract/test_codec.py` has one test each).
"""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar

import msgspec

from fleet_core.contract.errors import InvalidPayload, PayloadTooLarge
from fleet_core.contract.topics import Template

MAX_DEPTH = 32
"""Levels of nesting a free-form part of a payload may have."""

_encoder = msgspec.json.Encoder(decimal_format="string")
_M = TypeVar("_M", bound=msgspec.Struct)


@cache
def _decoder(payload_type: type[_M]) -> msgspec.json.Decoder[_M]:
    return msgspec.json.Decoder(payload_type)


def decode(template: Template, payload: bytes) -> msgspec.Struct:
    """Decode one payload of `template`. Raises `PayloadTooLarge` or `InvalidPayload`."""
    if len(payload) > template.payload_limit_bytes:
        raise PayloadTooLarge(len(payload), template.payload_limit_bytes)
    return decode_as(template.payload_type, payload)


def decode_as(payload_type: type[_M], payload: bytes) -> _M:
    """Decode `payload` as `payload_type`. Raises `InvalidPayload`, whatever the bytes are."""
    try:
        message: _M = _decoder(payload_type).decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidPayload(_explain(error)) from error
    if _may_hold_what_postgresql_cannot(payload):
        _check_storable(msgspec.to_builtins(message), depth=0)
    return message


def encode(message: Any) -> bytes:
    """The UTF-8 JSON of a message or of plain values."""
    return _encoder.encode(message)


def _explain(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)[:300]


def _may_hold_what_postgresql_cannot(payload: bytes) -> bool:
    """Cheap enough for every message: true means that a closer look is due, not that it is bad."""
    return b"\\u0000" in payload or payload.count(b"[") + payload.count(b"{") > MAX_DEPTH


def _check_storable(value: Any, depth: int) -> None:
    """Refuse NUL characters, which neither text nor jsonb can hold, and absurd nesting."""
    if depth > MAX_DEPTH:
        raise InvalidPayload(f"nested more than {MAX_DEPTH} levels deep")
    if isinstance(value, str):
        if "\0" in value:
            raise InvalidPayload("contains the character U+0000")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_storable(key, depth + 1)
            _check_storable(item, depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_storable(item, depth + 1)
