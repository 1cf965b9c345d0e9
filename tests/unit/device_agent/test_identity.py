from __future__ import annotations

import logging
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_agent.config import Settings
from device_agent.data_directory import SYSTEM_PATH, DataDirectory, default_path
from device_agent.identity import settle
from fleet_core.contract.enrolment import EnrolmentCode, encode_code
from fleet_core.contract.errors import ConfigError

URL = "mqtt://127.0.0.1:1883"
CODE = encode_code(EnrolmentCode(URL, "gw-0001"))


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[DataDirectory]:
    opened = DataDirectory(tmp_path / "data")
    yield opened
    opened.close()


def test_a_code_supplies_both_and_is_needed_only_once(directory: DataDirectory) -> None:
    first = settle(Settings(registration_token=CODE), directory)
    assert (first.device_id, str(first.address)) == ("gw-0001", URL)
    assert settle(Settings(), directory) == first
    assert settle(Settings(registration_token=CODE), directory) == first


def test_a_code_for_another_device_is_refused_and_says_how_to_go_on(
    directory: DataDirectory,
) -> None:
    settle(Settings(registration_token=CODE), directory)
    other = encode_code(EnrolmentCode("mqtt://localhost:99", "gw-0002"))
    with pytest.raises(ConfigError) as refused:
        settle(Settings(registration_token=other), directory)
    assert f"{directory.path} belongs to the device 'gw-0001'" in str(refused.value)
    assert "REGISTRATION_TOKEN is for 'gw-0002'" in str(refused.value)
    assert "--data-dir or FLEET_AGENT_DATA_DIR" in str(refused.value)
    assert directory.read("device-id") == "gw-0001"
    assert directory.read("management-url") == URL


def test_a_new_code_for_the_same_device_moves_it_to_the_new_broker(
    directory: DataDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    settle(Settings(registration_token=CODE), directory)
    assert caplog.messages == []
    moved = encode_code(EnrolmentCode("mqtt://localhost:1999", "gw-0001"))
    assert settle(Settings(registration_token=moved), directory).address.port == 1999
    assert caplog.messages == ["agent.moved"]
    assert settle(Settings(), directory).address.port == 1999
    assert caplog.messages == ["agent.moved"]


def test_a_new_code_that_is_not_accepted_leaves_the_broker_as_it_was(
    directory: DataDirectory,
) -> None:
    settle(Settings(registration_token=CODE), directory)
    far = encode_code(EnrolmentCode("mqtt://192.0.2.1", "gw-0001"))
    with pytest.raises(ConfigError, match="not on this machine"):
        settle(Settings(registration_token=far), directory)
    assert directory.read("management-url") == URL


def test_a_url_from_the_settings_wins_and_is_not_kept(directory: DataDirectory) -> None:
    settings = Settings(registration_token=CODE, management_url="mqtt://localhost:1999")
    assert settle(settings, directory).address.port == 1999
    assert settle(Settings(registration_token=CODE), directory).address.port == 1883


def test_an_id_and_a_url_are_enough(directory: DataDirectory) -> None:
    identity = settle(Settings(device_id="gw-0009", management_url="mqtt://[::1]"), directory)
    assert identity.device_id == "gw-0009"
    assert settle(Settings(management_url=URL), directory).device_id == "gw-0009"


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (Settings(), "which device"),
        (Settings(device_id="gw-0001"), "which broker"),
        (Settings(device_id="GW 1", management_url=URL), "no device id"),
        (Settings(device_id="gw-0001", management_url="http://127.0.0.1"), "no broker URL"),
        (Settings(device_id="gw-0001", management_url="mqtt://192.0.2.1"), "not on this machine"),
        (Settings(device_id="gw-0001", management_url="mqtt://0.0.0.0"), "not on this machine"),
        (Settings(device_id="gw-0001", management_url="mqtt://broker.test"), "not on this machine"),
        (Settings(registration_token="fleet1.%%%"), "REGISTRATION_TOKEN"),
        (Settings(registration_token=CODE, device_id="gw-0002"), "REGISTRATION_TOKEN says"),
    ],
)
def test_what_is_missing_or_wrong_is_said_and_nothing_is_kept(
    directory: DataDirectory, settings: Settings, reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        settle(settings, directory)
    assert directory.read("device-id") is None
    assert directory.read("management-url") is None


def test_a_device_does_not_change_its_name(directory: DataDirectory) -> None:
    settle(Settings(registration_token=CODE), directory)
    with pytest.raises(ConfigError, match="the file device-id says 'gw-0001'"):
        settle(Settings(device_id="gw-0002", management_url=URL), directory)


def test_a_damaged_id_is_refused(directory: DataDirectory) -> None:
    (directory.path / "device-id").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="can't be read"):
        settle(Settings(management_url=URL), directory)


def test_the_directory_is_private_and_locked(directory: DataDirectory) -> None:
    assert stat.S_IMODE(directory.path.stat().st_mode) == 0o700
    with pytest.raises(ConfigError, match=r"another agent is running on .*: .*--data-dir"):
        DataDirectory(directory.path)


def test_the_lock_is_free_again_afterwards(tmp_path: Path) -> None:
    DataDirectory(tmp_path).close()
    DataDirectory(tmp_path).close()


def test_a_place_that_can_not_be_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="can't be used"):
        DataDirectory(tmp_path / "file" / "data")


def test_root_and_others_have_different_places() -> None:
    home = Path("/home/somebody")
    assert default_path(home, "", root=True) == SYSTEM_PATH
    assert default_path(home, "", root=False) == home / ".local/state/mqtt-fleet-agent"
    assert default_path(home, "/state", root=False) == Path("/state/mqtt-fleet-agent")


def test_the_mode_of_a_directory_that_was_there_stays(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    DataDirectory(tmp_path).close()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o1777
