"""Imports point one way (design §1), and an agent carries nothing of the server."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.house.source import REPOSITORY, SHIPPED, found_in, imported, modules, offences

MAY_IMPORT = {package: {package, "fleet_core"} for package in SHIPPED}
MAY_IMPORT["simulator"] |= {"device_agent"}
PURE = ("fleet_core/rules/", "fleet_core/contract/")
IMPURE_STDLIB = {
    *(
        "asyncio",
        "io",
        "logging",
        "os",
        "pathlib",
        "random",
        "select",
        "shutil",
        "signal",
        "socket",
    ),
    *("sqlite3", "ssl", "subprocess", "sys", "tempfile", "threading", "time", "tomllib", "urllib"),
}
FOREIGN_TO_AN_AGENT = ("fleet_core.registry", "psycopg", "amqtt", "typer", "rich")


def wrong_direction(path: str, module: ast.Module) -> Iterator[str]:
    """Packages of ours that a package may not import."""
    allowed = MAY_IMPORT[path.split("/")[0]]
    for line, name in imported(module):
        package = name.split(".")[0]
        if package in {*SHIPPED, "tests", "bench", "tools"} - allowed:
            yield f"{path}:{line} imports {name}"


def impure(path: str, module: ast.Module) -> Iterator[str]:
    """What rules and contract may not import: only each other's values, msgspec, and pure parts of
    the standard library."""
    if not path.startswith(PURE):
        return
    allowed = ["fleet_core.contract"] + ["fleet_core.rules"] * ("/rules/" in path)
    for line, name in imported(module):
        package = name.split(".")[0]
        if package == "fleet_core":
            fine = any(name == a or name.startswith(f"{a}.") for a in allowed)
        else:
            fine = package == "msgspec" or package in sys.stdlib_module_names - IMPURE_STDLIB
        if not fine:
            yield f"{path}:{line} imports {name}"


def test_packages_import_only_what_they_may() -> None:
    assert offences(wrong_direction, *SHIPPED) == []


def test_rules_and_contract_are_pure() -> None:
    assert offences(impure, "fleet_core") == []


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("handlers/x.py", "import broker.embedded"),
        ("broker/x.py", "from handlers import roles"),
        ("fleet_cli/x.py", "def f():\n    import device_agent"),
        ("fleet_core/runtime/x.py", "from handlers.roles import ROLES"),
        ("device_agent/x.py", "from tests.fixtures import store"),
        ("simulator/x.py", "import handlers"),
    ],
)
def test_a_wrong_direction_is_found(path: str, code: str) -> None:
    assert found_in(wrong_direction, code, path) != []


def test_the_simulator_may_drive_the_agent() -> None:
    assert found_in(wrong_direction, "import device_agent.machine", "simulator/x.py") == []


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("fleet_core/rules/x.py", "import structlog"),
        ("fleet_core/rules/x.py", "import asyncio"),
        ("fleet_core/rules/x.py", "from fleet_core.registry import store"),
        ("fleet_core/rules/x.py", "from fleet_core.runtime.clock import now_utc"),
        ("fleet_core/contract/x.py", "from fleet_core.rules import health"),
        ("fleet_core/contract/x.py", "from fleet_core import rules"),
        ("fleet_core/contract/x.py", "from pathlib import Path"),
    ],
)
def test_an_impure_import_is_found(path: str, code: str) -> None:
    assert found_in(impure, code, path) != []


def test_an_agent_loads_nothing_of_the_server() -> None:
    names = [path[:-3].replace("/", ".") for path in modules("device_agent")]
    program = f"""
import importlib, sys
for name in {names!r}:
    if not name.endswith("__main__"):
        importlib.import_module(name)
importlib.import_module("device_agent.__main__")
foreign = {FOREIGN_TO_AN_AGENT!r}
found = [m for m in sys.modules if any(m == f or m.startswith(f + ".") for f in foreign)]
sys.exit(" ".join(found) or 0)
"""
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
