"""The enrolment code: what `fleet device register` prints and an agent reads on its first start.

    fleet1.<base64url(JSON {"url": "mqtt://…", "device_id": "…"})>      without padding

- One line of printable ASCII, at most `CODE_LIMIT` characters, safe in a shell and in a QR code.
- `fleet1` is the version of the format; another first word is refused.
- Until the trust issue lands the code carries no secret.
"""

from __future__ import annotations

import base64
import binascii
import re

import msgspec

from fleet_core.contract.codec import decode_as, encode
from fleet_core.contract.errors import InvalidPayload
from fleet_core.contract.topics import Kind, is_valid_id

PREFIX = "fleet1."
CODE_LIMIT = 2048
"""Characters of a code, prefix included."""

_BODY = re.compile(r"[A-Za-z0-9_-]+")
_URL = re.compile(r"mqtts?://[!-~]{1,255}")


class EnrolmentCode(msgspec.Struct, frozen=True):
    """Where a new device finds its platform, and who it is there."""

    url: str
    device_id: str


def encode_code(code: EnrolmentCode) -> str:
    """The printable form. Raises `InvalidPayload` for an id or a URL that no agent would take.

    >>> decode_code(encode_code(EnrolmentCode("mqtt://127.0.0.1:1883", "gw-0001"))).device_id
    'gw-0001'
    """
    _check(code)
    body = base64.urlsafe_b64encode(encode(code)).rstrip(b"=")
    return PREFIX + body.decode("ascii")


def decode_code(text: str) -> EnrolmentCode:
    """Read a code; white space around it is forgiven. Raises `InvalidPayload` for anything else."""
    if len(text) > CODE_LIMIT:
        raise InvalidPayload(f"an enrolment code has at most {CODE_LIMIT} characters")
    text = text.strip()
    body = text.removeprefix(PREFIX)
    if body == text or _BODY.fullmatch(body) is None:
        raise InvalidPayload(f"an enrolment code looks like {PREFIX}eyJ1cmwi…")
    try:
        document = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
    except binascii.Error as error:
        raise InvalidPayload("the enrolment code is incomplete") from error
    code = decode_as(EnrolmentCode, document)
    _check(code)
    return code


def _check(code: EnrolmentCode) -> None:
    if not is_valid_id(Kind.DEVICES, code.device_id):
        raise InvalidPayload("the enrolment code names no valid device id")
    if _URL.fullmatch(code.url) is None:
        raise InvalidPayload("the enrolment code names no broker URL")
