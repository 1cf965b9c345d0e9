"""`fleet`: builds the command, runs it, and turns whatever it ends with into an exit code.

The one place that catches everything: what no command expects is an internal error, told with its
traceback.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import typer

from fleet_cli import output
from fleet_cli.apps import root_app
from fleet_cli.errors import (
    EXIT_INTERRUPTED,
    EXIT_OK,
    CommandFailed,
    ReaderGone,
    UsageFailed,
    exit_code,
)
from fleet_cli.formats import OutputFormat, default_format
from fleet_core.contract.errors import ConfigError, Rejected

# What typer raises for a wrong command line; its module depends on typer's version.
USAGE_ERROR: Any = typer.BadParameter.__mro__[1]
_OUTPUT_OPTIONS = ("-o", "--output")


def main() -> None:
    """The entry point of the installed command."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line; gives its exit code and never raises."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a character that can't be written must not end us
            stream.reconfigure(errors="backslashreplace")
    logging.getLogger().addHandler(logging.NullHandler())  # libraries don't talk on our stderr
    asked = list(arguments) or ["--help"]
    chosen = chosen_format(asked) or default_format(stdout_is_terminal=sys.stdout.isatty())
    try:
        ended: Any = root_app()(args=asked, prog_name="fleet", standalone_mode=False)
    except ReaderGone:
        return EXIT_OK
    except (KeyboardInterrupt, typer.Abort):
        return EXIT_INTERRUPTED
    except BaseException as error:  # noqa: BLE001 (the one place)
        failure = explain(error)
        output.fail(failure, chosen)
        return exit_code(failure.code)
    return ended if isinstance(ended, int) else EXIT_OK


def chosen_format(arguments: Sequence[str]) -> OutputFormat | None:
    """The format the command line asks for, also of one that can't be parsed.

    >>> chosen_format(["device", "list", "-o", "yaml"]), chosen_format(["version", "-ocsv"])
    (<OutputFormat.YAML: 'yaml'>, <OutputFormat.CSV: 'csv'>)
    """
    found: OutputFormat | None = None
    for index, argument in enumerate(arguments):
        if argument == "--":
            break
        value = ""
        if argument in _OUTPUT_OPTIONS:
            value = arguments[index + 1] if index + 1 < len(arguments) else ""
        elif argument.startswith("--output="):
            value = argument.partition("=")[2]
        elif argument.startswith("-o"):
            value = argument[2:]
        if value in set(OutputFormat):
            found = OutputFormat(value)
    return found


def explain(error: BaseException) -> CommandFailed:
    """Whatever a command ended with, as the error an operator reads."""
    if isinstance(error, CommandFailed):
        return error
    if isinstance(error, USAGE_ERROR):
        return _usage(error)
    if isinstance(error, ConfigError | Rejected):
        return UsageFailed(str(error))
    lines = traceback.format_exception(error)
    return CommandFailed(
        "internal",
        f"{type(error).__name__}: {error}",
        "this is a bug in mqtt-fleet; please report it with the traceback",
        {"traceback": "".join(lines)[-4000:]},
    )


def _usage(error: Any) -> UsageFailed:
    """The sentence of a usage error, and where its help is."""
    context = error.ctx
    message = " ".join(error.format_message().split())
    if context is None:
        return UsageFailed(message, "fleet --help")
    words = getattr(context.command, "list_commands", None)
    verbs = f"one of {', '.join(words(context))}; " if words and "ommand" in message else ""
    return UsageFailed(message, f"{verbs}{context.command_path} --help")


if __name__ == "__main__":
    main()
