"""`fleet handlers …`: the platform's own processes, one set of roles each."""

from __future__ import annotations

from typing import Annotated

import typer

from fleet_cli.apps import new_app
from fleet_cli.programs import run_instead

app = new_app("Handlers: the platform's own processes.")


@app.command()
def run(
    *,
    roles: Annotated[list[str], typer.Argument(metavar="ROLE...", help="ingest, for instance.")],
    instance: Annotated[
        str | None, typer.Option("--instance", help="Tells processes of one role apart.")
    ] = None,
    config: Annotated[
        str | None, typer.Option("--config", metavar="FILE", help="A TOML file over the defaults.")
    ] = None,
) -> None:
    """Run the handlers of some roles in this process, until told to stop."""
    before = [] if config is None else [f"--config={config}"]
    after = [] if instance is None else [f"--instance={instance}"]
    run_instead("handlers", [*before, "run", *after, *roles])
