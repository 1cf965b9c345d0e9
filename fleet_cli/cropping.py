"""Texts made shorter, with `…` for what is missing. Pure; widths are those of a terminal's cells.

What tells two rows apart is kept: both ends of an id, the device of a topic.
"""

from __future__ import annotations

ELLIPSIS = "…"
_LEVELS_BEFORE_ID = 3
"""Of a topic of the contract: they are the same in every row."""


def width_of(text: str) -> int:
    """How many cells of a terminal `text` takes."""
    from rich.cells import cell_len

    return cell_len(text)


def end(text: str, width: int) -> str:
    """The beginning of `text`.

    >>> end("Gateway 17", 8)
    'Gateway…'
    """
    if width_of(text) <= width:
        return text
    return _first(text, width - 1) + ELLIPSIS if width > 0 else ""


def middle(text: str, width: int) -> str:
    """Both ends of `text`.

    >>> middle("gateway-berlin-0017", 11)
    'gatew…-0017'
    """
    if width_of(text) <= width:
        return text
    if width < 3:
        return end(text, width)
    tail = (width - 1) // 2
    return _first(text, width - 1 - tail) + ELLIPSIS + _first(text[::-1], tail)[::-1]


def topic(text: str, width: int) -> str:
    """A topic without what all topics share, and then its channel; the id goes last.

    >>> from fleet_core.contract.topics import DEVICE_HEARTBEAT
    >>> [topic(DEVICE_HEARTBEAT.topic("gw-1"), width) for width in (19, 10, 5)]
    ['…/gw-1/up/heartbeat', '…/gw-1/up…', '…gw-1']
    """
    levels = text.split("/")
    if width_of(text) <= width or len(levels) <= _LEVELS_BEFORE_ID:
        return end(text, width)
    identity = levels[_LEVELS_BEFORE_ID]
    short = "/".join((ELLIPSIS, *levels[_LEVELS_BEFORE_ID:]))
    if width_of(f"{ELLIPSIS}/{identity}{ELLIPSIS}") <= width:
        return end(short, width)
    return ELLIPSIS + middle(identity, width - 1)


def _first(text: str, width: int) -> str:
    """As many characters as fit."""
    used = 0
    for index, character in enumerate(text):
        used += width_of(character)
        if used > width:
            return text[:index]
    return text
