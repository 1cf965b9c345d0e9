"""Numbers and times as people read them. Pure: the present is an argument."""

from __future__ import annotations

from datetime import datetime

_UNITS_S = ((86_400, "d"), (3_600, "h"), (60, "min"))
NOTHING = "-"


def ago(moment: datetime | None, now: datetime) -> str:
    """How long ago `moment` was, in its largest unit.

    >>> from datetime import UTC, timedelta
    >>> now = datetime(2030, 1, 1, tzinfo=UTC)
    >>> ago(now - timedelta(seconds=12), now), ago(now - timedelta(hours=49), now), ago(None, now)
    ('12 s ago', '2 d ago', 'never')
    """
    if moment is None:
        return "never"
    seconds = (now - moment).total_seconds()
    return f"in {duration(-seconds)}" if seconds <= -1 else f"{duration(max(0, seconds))} ago"


def duration(seconds: float | None) -> str:
    """A length of time, rounded down to its largest unit.

    >>> duration(0.4), duration(119), duration(90_000), duration(None)
    ('0 s', '1 min', '1 d', '-')
    """
    if seconds is None:
        return NOTHING
    for size_s, unit in _UNITS_S:
        if seconds >= size_s:
            return f"{int(seconds // size_s)} {unit}"
    return f"{int(seconds)} s"


def percent(value: float | None) -> str:
    """A percentage without decimals.

    >>> percent(42.6), percent(None)
    ('43 %', '-')
    """
    return NOTHING if value is None else f"{value:.0f} %"


def size(value_bytes: int | None) -> str:
    """Bytes in binary units.

    >>> size(512), size(3 * 1024**3), size(None)
    ('512 B', '3.0 GiB', '-')
    """
    if value_bytes is None:
        return NOTHING
    amount = float(value_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def count(value: int | None) -> str:
    """A whole number with separators.

    >>> count(1234567), count(None)
    ('1,234,567', '-')
    """
    return NOTHING if value is None else f"{value:,}"


def tag_list(tags: dict[str, str]) -> str:
    """Tags as they are typed.

    >>> tag_list({"env": "lab", "rack": "2"})
    'env=lab rack=2'
    """
    return " ".join(f"{key}={value}" for key, value in sorted(tags.items()))


def off_by(skew_s: float) -> str:
    """How far a clock is from ours.

    >>> off_by(7205.25), off_by(-90)
    ('2 h ahead', '1 min behind')
    """
    return f"{duration(abs(skew_s))} {'ahead' if skew_s >= 0 else 'behind'}"
