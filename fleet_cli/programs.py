"""Starting the project's other programs: as modules of this installation, never imported.

- `-P` keeps the current directory out of the module path: a file called `handlers.py` lying about
  is not what the operator asked for. This installation's own place is put first instead.
- `run_instead` does not return: signals and the exit code belong to the program.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from fleet_cli.errors import CommandFailed

ROOT = Path(__file__).resolve().parent.parent


def command_line(module: str, arguments: Sequence[str]) -> list[str]:
    """The command that runs `module`. Raises `CommandFailed` where it is not installed.

    >>> command_line("fleet_cli", ["version"])[1:]
    ['-P', '-m', 'fleet_cli', 'version']
    """
    base = ROOT.joinpath(*module.split("."))
    if not (base.with_suffix(".py").is_file() or (base / "__main__.py").is_file()):
        raise CommandFailed(
            "not_found",
            f"the program {module} is not installed here",
            "the platform's programs come with the extra [server] of mqtt-fleet",
        )
    return [sys.executable, "-P", "-m", module, *arguments]


def program_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` with this installation first on the module path."""
    rest = environment.get("PYTHONPATH", "")
    return {**environment, "PYTHONPATH": f"{ROOT}{os.pathsep}{rest}" if rest else str(ROOT)}


def run_instead(module: str, arguments: Sequence[str]) -> NoReturn:
    """Become `python -m module`."""
    command = command_line(module, arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(command[0], command, program_environment(os.environ))  # noqa: S606 (no shell wanted)
