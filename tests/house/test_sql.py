"""SQL and the Python that feeds it name the same statements and the same parameters."""

from __future__ import annotations

import ast
import re

from fleet_core.registry import queries
from tests.house.source import modules, tree

PLACEHOLDER = re.compile(rb"%\((\w+)\)s")


def mismatches(statements: dict[str, bytes], module: ast.Module) -> list[str]:
    """Statements nobody asks for and parameters nobody gives."""
    words = {n.value for n in ast.walk(module) if isinstance(n, ast.Constant)}
    prefixes = tuple(
        str(n.values[0].value)
        for n in ast.walk(module)
        if isinstance(n, ast.JoinedStr) and n.values and isinstance(n.values[0], ast.Constant)
    )
    found = []
    for name, statement in statements.items():
        if name not in words and not name.startswith(prefixes or ("\0",)):
            found.append(f"{name} is never executed")
        wanted = {p.decode() for p in PLACEHOLDER.findall(statement)}
        found += [f"{name} wants {parameter}" for parameter in wanted - words]
    return found


def test_every_statement_is_used_and_gets_its_parameters() -> None:
    for noun in queries.nouns():
        module = tree(f"fleet_core/registry/{noun}.py")
        assert mismatches(queries.load(noun), module) == [], noun


def test_sql_stands_in_the_registry_only() -> None:
    keyword = re.compile(
        r"^\s*(SELECT|INSERT INTO|UPDATE|DELETE FROM|CREATE TABLE)\b.*\s", re.DOTALL
    )
    allowed = ("fleet_core/registry/", "fleet_core/runtime/postgres.py", "device_agent/spool")
    for path in modules("broker", "device_agent", "fleet_cli", "fleet_core", "handlers"):
        if path.startswith(allowed):
            continue
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not keyword.match(node.value), f"{path}:{node.lineno}"


def test_a_mismatch_is_found() -> None:
    statements = {"get": b"SELECT %(id)s", "page_a": b"SELECT %(limit)s", "lost": b"SELECT 1"}
    module = ast.parse("x = {'id': 1}; a('get'); a(f'page_{y}')")
    assert mismatches(statements, module) == ["page_a wants limit", "lost is never executed"]
