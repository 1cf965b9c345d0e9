"""The sources that the house rules look at, and offences in them as `path:line what`."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SHIPPED = ("broker", "device_agent", "fleet_cli", "fleet_core", "handlers", "simulator")
Rule = Callable[[str, ast.Module], Iterator[str]]


@cache
def files() -> tuple[str, ...]:
    """Every file that is tracked, or would be with the next `git add`."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return tuple(sorted(f for f in set(listed.stdout.splitlines()) if (REPOSITORY / f).is_file()))


def modules(*packages: str) -> list[str]:
    """Paths of the Python files below these folders."""
    return [f for f in files() if f.endswith(".py") and f.split("/")[0] in packages]


@cache
def text(path: str) -> str:
    """The text of a file; empty where it is none."""
    return (REPOSITORY / path).read_bytes().decode("utf-8", "ignore")


@cache
def tree(path: str) -> ast.Module:
    """A module, parsed."""
    return ast.parse(text(path), path)


def offences(rule: Rule, *packages: str) -> list[str]:
    """What `rule` finds in the modules of these folders."""
    return [found for path in modules(*packages) for found in rule(path, tree(path))]


def found_in(rule: Rule, code: str, path: str = "handlers/example.py") -> list[str]:
    """What `rule` finds in a snippet that stands at `path`."""
    return list(rule(path, ast.parse(code)))


def imported(module: ast.Module) -> Iterator[tuple[int, str]]:
    """Every module that is imported anywhere in `module`, with its line."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.lineno, node.module
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def documentation(module: ast.Module) -> set[int]:
    """Ids of the nodes that are docstrings, of attributes too: strings that stand alone."""
    return {
        id(node.value)
        for node in ast.walk(module)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }


def called(node: ast.Call) -> str:
    """The dotted name of what is called, as far as it is one."""
    try:
        return ast.unparse(node.func)
    except ValueError:
        return ""
