"""`fleet handlers …`: the platform's own processes, one set of roles each."""

from __future__ import annotations

from typing import Annotated

import typer

from fleet_cli.apps import new_app
from fleet_cli.programs import run_instead

ConfigFile = Annotated[
    str | None, typer.Option("--config", metavar="FILE", help="A TOML file over the defaults.")
]
app = new_app("Handlers: the platform's own processes.")


@app.command()
def run(
    *,
    roles: Annotated[
        list[str],
        typer.Argument(metavar="ROLE...", help="ingest, presence, operator: one or more."),
    ],
    instance: Annotated[
        str | None, typer.Option("--instance", help="Tells processes of one role apart.")
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Run the handlers of some roles in this process, until told to stop.

    FLEET_DATABASE_URL and FLEET_BROKER_URL say where; `fleet handlers migrate` comes first.
    """
    after = [] if instance is None else [f"--instance={instance}"]
    run_instead("handlers", [*_before(config), "run", *after, *roles])


@app.command()
def migrate(*, config: ConfigFile = None) -> None:
    """Bring the database at FLEET_DATABASE_URL up to date. Safe to repeat, and at any time."""
    run_instead("handlers", [*_before(config), "migrate"])


def _before(config: str | None) -> list[str]:
    return [] if config is None else [f"--config={config}"]
