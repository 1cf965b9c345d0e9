"""How commands are grouped and found: a command's module is imported when it is called.

- `COMMANDS` is the whole first level: a word, its module, and the name in it: a typer app for a
  noun with verbs, a function for a command of one word.
- A module that is not installed is no command.
- Help is plain text and rich is not imported for it: start-up time is part of the command.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("fleet_cli.stack", "up"),
    "demo": ("fleet_cli.demo", "demo"),
    "status": ("fleet_cli.status", "status"),
    "device": ("fleet_cli.device", "app"),
    "dead-letters": ("fleet_cli.dead_letters", "app"),
    "broker": ("fleet_cli.broker", "app"),
    "handlers": ("fleet_cli.handlers", "app"),
    "sim": ("fleet_cli.sim", "app"),
    "version": ("fleet_cli.version", "version"),
}
CONTEXT = {"help_option_names": ["-h", "--help"]}


def new_app(summary: str) -> typer.Typer:
    """A group of verbs under one noun."""
    app = typer.Typer(
        help=summary, rich_markup_mode=None, add_completion=False, context_settings=CONTEXT
    )
    app.callback()(_nothing)
    return app


def _version(asked: bool) -> None:  # noqa: FBT001 (typer's signature)
    if asked:
        from fleet_cli.output import write
        from fleet_cli.version import fleet_version

        write(f"fleet {fleet_version()}\n")
        raise typer.Exit


class LazyGroup(TyperGroup):
    """The first level: `fleet <word>`."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 (typer's signature)
        """The words whose modules are there, in the order of the table."""
        return [word for word, (module, _) in COMMANDS.items() if find_spec(module)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import and build one command; None when there is no such word."""
        if cmd_name not in self.list_commands(ctx):
            return None
        module, attribute = COMMANDS[cmd_name]
        found = getattr(import_module(module), attribute)
        return typer.main.get_command(found if isinstance(found, typer.Typer) else _single(found))


def root_app() -> typer.Typer:
    """The `fleet` command."""
    app = typer.Typer(
        cls=LazyGroup,
        help="Run a fleet of devices over MQTT.",
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings=CONTEXT,
    )
    app.callback()(_root)
    return app


def _root(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_version, help="Show the version."),
    ] = False,
) -> None:
    """The options of `fleet` itself."""


def _single(function: Any) -> typer.Typer:
    app = typer.Typer(rich_markup_mode=None, add_completion=False, context_settings=CONTEXT)
    app.command()(function)
    return app


def _nothing() -> None:
    """A callback makes typer build a group even of a single verb."""
