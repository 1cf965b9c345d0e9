"""The command in this process: what an operator sees who may not, or has not, or already did."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from device_agent import logs
from device_agent.__main__ import EXIT_USAGE, main
from device_agent.data_directory import DataDirectory

NOBODY = 65534


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REGISTRATION_TOKEN", "MANAGEMENT_URL", "DEVICE_ID", "FLEET_AGENT_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(logs, "set_up", lambda: None)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Nothing in `path` can be reached: for root, who may everything, as somebody else."""
    path.mkdir(mode=0o000)
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        path.chmod(0o700)


@pytest.mark.parametrize("below", ["", "data"])
def test_a_directory_one_may_not_read_is_one_line_and_exit_2(
    tmp_path: Path, below: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "private"
    with locked(path):
        assert main(["run", "--data-dir", str(path / below)]) == EXIT_USAGE
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith(f"fleet-agent: {path}")
    assert "Permission denied" in error
    assert "--data-dir or FLEET_AGENT_DATA_DIR" in error


def test_a_directory_in_use_is_one_line_with_a_way_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = DataDirectory(tmp_path)
    assert main(["run", "--data-dir", str(tmp_path)]) == EXIT_USAGE
    taken.close()
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"another agent is running on {tmp_path}: name another directory" in error
