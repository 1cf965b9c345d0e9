"""What may stand in a module: topics in one place, one clock, small pieces, nothing swallowed."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.house.source import SHIPPED, called, documentation, found_in, modules, offences, tree

MODULE_LIMIT_LINES = 400
FUNCTION_LIMIT_LINES = 60
CLOCK = "fleet_core/runtime/clock.py"
TOPIC_ROOT = "fleet" + "/v1"
CLOCKS = ("datetime.now", "datetime.utcnow", "datetime.today", "date.today", "time.time")
SKIPS = (
    "pytest.skip",
    "pytest.xfail",
    "pytest.importorskip",
    "pytest.mark.skip",
    "pytest.mark.xfail",
)

LARGE: dict[str, str] = {}
"""Modules and functions (`path` or `path:name`) that are larger, each with its reason. An entry
that is no longer needed is an offence too: the limits only ever get tighter."""

SKIPPED = {
    "tests/integration/test_asyncapi.py": "without npm's packages; .ci/run turns a skip to failure",
    "tests/integration/test_brokers.py": "a machine without an IPv6 loopback can't bind to one",
    "tests/unit/fleet_cli/test_formats.py": "a YAML parser is not one of our dependencies",
}
"""Test modules that may skip, each with its reason."""


def topic_strings(path: str, module: ast.Module) -> Iterator[str]:
    """Topics that are written down outside the contract."""
    if path.startswith("fleet_core/contract/"):
        return
    documented = documentation(module)
    for node in ast.walk(module):
        if isinstance(node, ast.Constant) and id(node) not in documented:
            value = node.value.decode("latin-1") if isinstance(node.value, bytes) else node.value
            if isinstance(value, str) and TOPIC_ROOT in value:
                yield f"{path}:{node.lineno} {value[:60]!r}"


def banned_calls(path: str, module: ast.Module) -> Iterator[str]:
    """Clocks outside the clock, sleeping, printing; also where the name was imported alone."""
    for node in ast.walk(module):
        if isinstance(node, ast.Call):
            name = called(node)
            clock = name.removeprefix("datetime.") in CLOCKS or name in CLOCKS
            if (clock and path != CLOCK) or name in ("print", "time.sleep"):
                yield f"{path}:{node.lineno} {name}()"
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            for alias in node.names:
                if alias.name in ("sleep", "time"):
                    yield f"{path}:{node.lineno} imports time.{alias.name}"


def too_large(path: str, module: ast.Module) -> Iterator[str]:
    """Modules and functions beyond the limits."""
    lines = max((getattr(node, "end_lineno", 0) or 0 for node in ast.walk(module)), default=0)
    if lines > MODULE_LIMIT_LINES:
        yield path
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            if length > FUNCTION_LIMIT_LINES:
                yield f"{path}:{node.name}"


def undocumented(path: str, module: ast.Module) -> Iterator[str]:
    """Modules without a docstring; an empty one needs none."""
    if module.body and ast.get_docstring(module) is None:
        yield path


def swallowed(path: str, module: ast.Module) -> Iterator[str]:
    """Handlers that catch everything and do nothing about it."""
    for node in ast.walk(module):
        if not isinstance(node, ast.ExceptHandler):
            continue
        caught = ast.unparse(node.type) if node.type else "BaseException"
        everything = "Exception" in caught.strip("()").replace(" ", "").split(",")
        everything = everything or "BaseException" in caught
        nothing = all(
            isinstance(step, ast.Pass | ast.Continue)
            or (isinstance(step, ast.Expr) and isinstance(step.value, ast.Constant))
            for step in node.body
        )
        if everything and nothing:
            yield f"{path}:{node.lineno} except {caught}"
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and called(node).endswith("suppress"):
            for argument in node.args:
                if ast.unparse(argument) in ("Exception", "BaseException"):
                    yield f"{path}:{node.lineno} {ast.unparse(node)}"


def skips(path: str, module: ast.Module) -> Iterator[str]:
    """Tests that may not run, or may fail."""
    for node in ast.walk(module):
        if isinstance(node, ast.Attribute) and ast.unparse(node).startswith(SKIPS):
            yield f"{path}:{node.lineno} {ast.unparse(node)}"


def test_topics_are_written_in_the_contract_only() -> None:
    assert offences(topic_strings, *SHIPPED) == []


def test_there_is_one_clock_and_nobody_sleeps_or_prints() -> None:
    assert offences(banned_calls, *SHIPPED) == []
    assert list(banned_calls("elsewhere.py", tree(CLOCK))) != []


def test_modules_and_functions_are_small() -> None:
    assert sorted(set(offences(too_large, *SHIPPED))) == sorted(LARGE)
    assert all(reason for reason in LARGE.values())


def test_every_module_says_what_it_is() -> None:
    assert offences(undocumented, *SHIPPED, "bench", "tools", "examples") == []


def test_nothing_is_swallowed() -> None:
    assert offences(swallowed, *SHIPPED) == []


def test_no_test_is_skipped_but_for_a_reason() -> None:
    found = {offence.partition(":")[0] for offence in offences(skips, "tests")}
    assert found == set(SKIPPED)


def test_every_rule_has_something_to_look_at() -> None:
    assert {path.split("/")[0] for path in modules(*SHIPPED)} == set(SHIPPED)


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        (topic_strings, f"x = '{TOPIC_ROOT}/devices'"),
        (topic_strings, f"x = f'{TOPIC_ROOT}/devices/{{y}}'"),
        (topic_strings, f"x = b'$share/x/{TOPIC_ROOT}'"),
        (banned_calls, "datetime.now(UTC)"),
        (banned_calls, "datetime.datetime.utcnow()"),
        (banned_calls, "datetime.date.today()"),
        (banned_calls, "time.time()"),
        (banned_calls, "time.sleep(1)"),
        (banned_calls, "from time import sleep"),
        (banned_calls, "print('x')"),
        (too_large, "x = 1\n" * (MODULE_LIMIT_LINES + 1)),
        (too_large, "def f():\n" + "    x = 1\n" * FUNCTION_LIMIT_LINES),
        (too_large, "class C:\n  async def f():\n" + "    x = 1\n" * FUNCTION_LIMIT_LINES),
        (undocumented, "x = 1"),
        (swallowed, "try:\n    x\nexcept Exception:\n    pass"),
        (
            swallowed,
            "for x in y:\n  try:\n    x\n  except (ValueError, Exception):\n    continue",
        ),
        (swallowed, "try:\n    x\nexcept:\n    ..."),
        (swallowed, "with contextlib.suppress(Exception):\n    x"),
        (skips, "pytest.skip('no')"),
        (skips, "@pytest.mark.skipif(True)\ndef test_x(): ..."),
        (skips, "@pytest.mark.xfail\ndef test_x(): ..."),
    ],
)
def test_an_offence_is_found(rule: object, code: str) -> None:
    assert callable(rule)
    assert found_in(rule, code) != []


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        (topic_strings, f'"""Said on `{TOPIC_ROOT}/devices`."""'),
        (banned_calls, "clock.now()\nconsole.print('x')\nasyncio.sleep(0)"),
        (too_large, "x = 1\n" * MODULE_LIMIT_LINES),
        (too_large, "def f():\n" + "    x = 1\n" * (FUNCTION_LIMIT_LINES - 1)),
        (swallowed, "try:\n    x\nexcept Exception:\n    log.exception('x')"),
        (swallowed, "try:\n    x\nexcept OSError:\n    pass"),
    ],
)
def test_what_is_allowed_is_not(rule: object, code: str) -> None:
    assert callable(rule)
    assert found_in(rule, code) == []
