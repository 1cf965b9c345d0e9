"""`docs/asyncapi.json` is valid in the eyes of the AsyncAPI project's own parser."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fleet_core.contract.asyncapi import asyncapi, render_asyncapi

FOLDER = Path(__file__).resolve().parents[1] / "asyncapi"
HARMLESS_SEVERITY = 2
"""0 is an error, 1 a warning; from 2 on it is a remark, such as that AsyncAPI 3.1 exists."""

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not (FOLDER / "node_modules" / "@asyncapi" / "parser").is_dir(),
    reason="needs node, and `npm ci` in tests/asyncapi",
)


def validate(path: Path) -> dict[str, Any]:
    ran = subprocess.run(
        ["node", str(FOLDER / "validate.mjs"), str(path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    result: dict[str, Any] = json.loads(ran.stdout)
    return result


def test_the_document_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "asyncapi.json"
    path.write_text(render_asyncapi())
    result = validate(path)
    assert result["parsed"]
    assert [p for p in result["problems"] if p["severity"] < HARMLESS_SEVERITY] == []


@pytest.mark.parametrize("field", ["address", "channel"])
def test_the_parser_notices_a_broken_document(tmp_path: Path, field: str) -> None:
    document = asyncapi()
    if field == "address":
        document["channels"]["device_heartbeat"]["address"] = 1
    else:
        operation = document["operations"]["receive_device_heartbeat"]
        operation["channel"]["$ref"] = "#/channels/invented"
    path = tmp_path / "asyncapi.json"
    path.write_text(json.dumps(document))
    problems = validate(path)["problems"]
    assert any(problem["severity"] < HARMLESS_SEVERITY for problem in problems)
