"""Options that several commands share, each written once, and how their texts are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from fleet_cli.errors import UsageFailed
from fleet_cli.formats import OutputFormat
from fleet_cli.words import MAX_SITE_CHARACTERS, line_of, tag_of

DEFAULT_URL = "mqtt://127.0.0.1:1883"
DEFAULT_OPERATOR = "local"
DEFAULT_TIMEOUT_S = 10.0
OPERATOR_PREFIX = "operator."

BrokerUrl = Annotated[
    str, typer.Option("--url", envvar="FLEET_BROKER_URL", help="The broker, mqtt://host[:port].")
]
OperatorName = Annotated[
    str, typer.Option("--operator", envvar="FLEET_OPERATOR", help="Who asks: alice, for instance.")
]
TimeoutSeconds = Annotated[
    float,
    typer.Option(
        "--timeout", min=0.1, max=3600, help="Seconds to wait for a connection and for each answer."
    ),
]
Output = Annotated[
    OutputFormat | None,
    typer.Option(
        "--output", "-o", help="Format; by default a table on a terminal and JSON in a pipe."
    ),
]
TagOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--tag", metavar="KEY=VALUE", help="A tag; may be repeated with another key: all of them."
    ),
]
SiteOptions = Annotated[
    list[str] | None, typer.Option("--site", help="Only this site; may be repeated: any of them.")
]
LimitOption = Annotated[
    int | None, typer.Option("--limit", min=1, help="At most so many rows; 100 if not given.")
]
OffsetOption = Annotated[int | None, typer.Option("--offset", min=0, help="Skip so many rows.")]
PageOption = Annotated[
    int | None, typer.Option("--page", min=1, help="Page N of --limit rows, from 1.")
]
AllOption = Annotated[bool, typer.Option("--all", help="Every row that matches.")]


def operator_id(name: str) -> str:
    """The whole id of an operator, of its name or of itself.

    >>> operator_id("alice"), operator_id("operator.alice")
    ('operator.alice', 'operator.alice')
    """
    return name if name.startswith(OPERATOR_PREFIX) else f"{OPERATOR_PREFIX}{name}"


def read_tags(pairs: Sequence[str] | None) -> dict[str, str]:
    """`key=value` texts as tags. Raises `UsageFailed`; a key given twice is an error, too.

    >>> read_tags(["env=lab", "note=a=b"])
    {'env': 'lab', 'note': 'a=b'}
    """
    tags: dict[str, str] = {}
    for pair in pairs or ():
        key, value = tag_of(pair)
        if key in tags:
            raise UsageFailed(
                f"the tag {key!r} is given twice", "a device has one value for each key"
            )
        tags[key] = value
    return tags


def read_sites(names: Sequence[str] | None) -> list[str]:
    """Sites to filter by. Raises `UsageFailed` for what can't be one."""
    return [line_of("site", name, MAX_SITE_CHARACTERS) for name in names or ()]
