from __future__ import annotations

from pathlib import Path

import pytest

from device_agent import config
from device_agent.config import Settings, load
from fleet_core.contract.errors import ConfigError


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_without_anything_the_defaults_hold(tmp_path: Path) -> None:
    assert load(None, tmp_path, {}) == Settings()
    assert Settings().heartbeat_interval_s == 30
    assert Settings().stack_version == "dev"


def test_the_environment_wins_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    write(tmp_path / "agent.toml", 'heartbeat_interval_s = 60\nstack_version = "2.0"\n')
    settings = load(None, tmp_path, {"STACK_VERSION": "3.0", "DEVICE_ID": "gw-0007"})
    assert (settings.heartbeat_interval_s, settings.stack_version) == (60, "3.0")
    assert settings.device_id == "gw-0007"


def test_a_named_file_replaces_the_one_in_the_data_directory(tmp_path: Path) -> None:
    write(tmp_path / "agent.toml", "nonsense")
    file = write(tmp_path / "other.toml", "[spool]\nheartbeats = false\n")
    assert not load(file, tmp_path, {}).spool.heartbeats


def test_an_empty_variable_counts_as_absent(tmp_path: Path) -> None:
    assert load(None, tmp_path, {"HEARTBEAT_INTERVAL": "", "STACK_VERSION": ""}) == Settings()


@pytest.mark.parametrize("text", ["10", "300"])
def test_the_interval_s_limits_are_allowed(tmp_path: Path, text: str) -> None:
    assert load(None, tmp_path, {"HEARTBEAT_INTERVAL": text}).heartbeat_interval_s == int(text)


@pytest.mark.parametrize("text", ["9", "301", "-30", "30s", "1e2", "٣٠", "9" * 5000])
def test_any_other_interval_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="HEARTBEAT_INTERVAL must be a whole number"):
        load(None, tmp_path, {"HEARTBEAT_INTERVAL": text})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("colour = 'red'", "colour"),
        ("[spool]\ncolour = 1", "colour"),
        ("heartbeat_interval_s = 5", "heartbeat_interval_s"),
        ("heartbeat_interval_s = '30'", "heartbeat_interval_s"),
        ("[connectors]\ndocker_name_pattern = '('", "docker_name_pattern"),
        ("[spool]\nrows_limit = 1", "rows_limit"),
        ("= broken", "can't be read"),
    ],
)
def test_a_bad_file_is_refused_by_name(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        load(write(tmp_path / "bad.toml", text), tmp_path, {})


def test_a_named_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read"):
        load(tmp_path / "nothing.toml", tmp_path, {})


def test_the_table_of_names_is_the_docstring_s() -> None:
    documentation = config.__doc__ or ""
    for name, key in config._NAMES.items():
        assert f"| `{name}` | `{key}` |" in documentation
