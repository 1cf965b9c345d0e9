"""A device id made of a name that people gave."""

from __future__ import annotations

import re
import unicodedata

from fleet_cli.errors import UsageFailed
from fleet_core.contract.topics import Kind, is_valid_id

MAX_ID_CHARACTERS = 63
RULE = "an id has 2 to 63 of a-z, 0-9 and -, beginning with a letter or a digit"


def slug(name: str) -> str:
    """`name` in the letters of a device id; may be too short to be one.

    >>> slug("Köln, Gateway 3"), slug("Straße"), slug("東京")
    ('koln-gateway-3', 'strasse', '')
    """
    letters = unicodedata.normalize("NFKD", name.casefold())
    ascii_only = letters.encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", ascii_only).strip("-")[:MAX_ID_CHARACTERS].rstrip("-")


def device_id_of(name: str, chosen: str) -> str:
    """The id that was chosen, or that of the name. Raises `UsageFailed` where it is not valid."""
    if chosen:
        return chosen_id(chosen)
    identity = slug(name)
    if is_valid_id(Kind.DEVICES, identity):
        return identity
    raise UsageFailed(f"the name {name[:80]!r} makes no device id", f"choose one with --id: {RULE}")


def chosen_id(chosen: str) -> str:
    """The id as it was given. Raises `UsageFailed` where it is not valid."""
    if not is_valid_id(Kind.DEVICES, chosen):
        raise UsageFailed(f"{chosen[:80]!r} is no device id", RULE)
    return chosen
