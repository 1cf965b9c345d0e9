"""`fleet version`."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from typing import TYPE_CHECKING

from fleet_cli.options import Output
from fleet_cli.output import resolve, write_document

if TYPE_CHECKING:
    from rich.console import RenderableType

DISTRIBUTION = "mqtt-fleet"


def version(*, output: Output = None) -> None:
    """Show the version of this command."""
    found = fleet_version()

    def table() -> RenderableType:
        from rich.text import Text

        return Text(f"fleet {found}")

    document = {"version": found, "python": platform.python_version()}
    write_document(document, resolve(output), names=[found], table=table)


def fleet_version() -> str:
    """The version of the installed distribution; `unreleased` in a bare checkout."""
    try:
        return installed_version(DISTRIBUTION)
    except PackageNotFoundError:
        return "unreleased"
