from __future__ import annotations

import os
from pathlib import Path

import pytest

from fleet_core.contract.errors import ConfigError
from fleet_core.runtime.directory import SYSTEM_DIRECTORY, Taken, default_directory, owned


def test_one_owner_at_a_time_and_the_next_after_it(data_directory: Path) -> None:
    with owned(data_directory):
        with pytest.raises(Taken, match="in use") as taken, owned(data_directory):
            pass
        assert "--data-dir" in taken.value.hint
    with owned(data_directory) as directory:
        assert (directory / "lock").read_text() == f"{os.getpid()}\n"


def test_a_missing_directory_is_made_for_its_owner_only(data_directory: Path) -> None:
    with owned(data_directory / "a" / "b") as directory:
        assert directory.stat().st_mode & 0o066 == 0


@pytest.mark.parametrize("mode", [0o1777, 0o755])
def test_the_mode_of_a_directory_that_was_there_stays(data_directory: Path, mode: int) -> None:
    shared = data_directory / "shared"
    shared.mkdir()
    shared.chmod(mode)
    with owned(shared):
        assert shared.stat().st_mode & 0o7777 == mode


def test_a_file_in_its_place_is_refused(data_directory: Path) -> None:
    (data_directory / "file").touch()
    with pytest.raises(ConfigError, match="can't be used"), owned(data_directory / "file"):
        pass


def test_the_default_follows_the_data_home() -> None:
    assert default_directory({"XDG_DATA_HOME": "/srv"}) == Path("/srv/mqtt-fleet")


@pytest.mark.parametrize(("user", "root"), [(1000, False), (0, True)])
def test_the_default_of_root_is_where_servers_can_enter(
    monkeypatch: pytest.MonkeyPatch,
    user: int,
    root: bool,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setenv("HOME", "/home/somebody")
    home = Path("/home/somebody/.local/share/mqtt-fleet")
    assert default_directory({}) == (SYSTEM_DIRECTORY if root else home)
