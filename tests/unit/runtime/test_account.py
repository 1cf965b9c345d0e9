from __future__ import annotations

import os
from pathlib import Path

import pytest

from fleet_core.contract.errors import ConfigError
from fleet_core.runtime.account import (
    Account,
    closed_directory,
    private_directory,
    require_entry,
    run_as,
)

STRANGER = Account("stranger", uid=54321, gid=54321)


@pytest.fixture
def below(tmp_path: Path) -> Path:
    """A directory whose parent can be closed, below directories that pytest keeps closed."""
    directory = tmp_path / "outer" / "inner"
    directory.mkdir(parents=True)
    return directory


def test_a_closed_directory_on_the_way_is_named(below: Path) -> None:
    below.parent.chmod(0o700)
    closed = closed_directory(STRANGER, below)
    assert closed is not None
    assert closed in (below, *below.parents)


def test_the_owner_enters_what_is_closed_to_others(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    myself = Account("myself", os.geteuid(), os.getegid())
    assert closed_directory(myself, tmp_path) is None


def test_the_group_counts_before_the_others(tmp_path: Path) -> None:
    tmp_path.chmod(0o701)
    colleague = Account("colleague", uid=54321, gid=tmp_path.stat().st_gid)
    assert closed_directory(colleague, tmp_path) is not None


def test_a_directory_that_cannot_be_entered_is_refused(below: Path) -> None:
    below.parent.chmod(0o700)
    with pytest.raises(ConfigError, match="can't enter"):
        require_entry(STRANGER, below)
    require_entry(None, below)


def test_a_private_directory_is_closed_again(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    assert private_directory(tmp_path / "open", None).stat().st_mode & 0o777 == 0o700


def test_a_link_in_the_place_of_a_private_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(ConfigError, match="somebody else"):
        private_directory(tmp_path / "link", None)


def test_a_program_runs_as_the_account_and_in_no_other_group() -> None:
    assert run_as(STRANGER) == {"user": 54321, "group": 54321, "extra_groups": ()}
    assert run_as(None) == {}
