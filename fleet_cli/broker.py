"""`fleet broker …`: configuration for the brokers the platform runs on."""

from __future__ import annotations

from typing import Annotated

import typer

from fleet_cli.apps import new_app
from fleet_cli.programs import run_instead

app = new_app("Brokers: their configuration.")
_render = new_app("Print the configuration of a broker.")
app.add_typer(_render, name="render")


@_render.command()
def mosquitto(
    *,
    host: Annotated[str | None, typer.Option("--host", help="Where to listen.")] = None,
    port: Annotated[
        int | None, typer.Option("--port", min=1, max=65535, help="The port to listen on.")
    ] = None,
    directory: Annotated[
        str | None, typer.Option("--directory", help="Where it keeps its state; absolute.")
    ] = None,
) -> None:
    """Print a mosquitto.conf."""
    chosen = {"--host": host, "--port": port, "--directory": directory}
    arguments = [f"{name}={value}" for name, value in chosen.items() if value is not None]
    run_instead("broker.mosquitto", arguments)
