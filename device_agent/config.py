"""The agent's configuration: defaults < TOML file < environment. Unknown keys are refused by name.

| environment | key of the file | |
|---|---|---|
| `MANAGEMENT_URL` | `management_url` | `mqtt://host:port` of the broker |
| `REGISTRATION_TOKEN` | `registration_token` | the enrolment code of `fleet device register` |
| `DEVICE_ID` | `device_id` | |
| `HEARTBEAT_INTERVAL` | `heartbeat_interval_s` | 10 to 300, default 30 |
| `STACK_VERSION` | `stack_version` | default `dev` |
| `FLEET_AGENT_DATA_DIR` | | see `data_directory.py` |

An environment variable that is empty counts as absent. The file is `--config`, or `agent.toml` in
the data directory if there is one.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from device_agent.data_directory import ELSEWHERE
from fleet_core.contract.errors import ConfigError

INTERVAL_MIN_S = 10
INTERVAL_MAX_S = 300
FILE_NAME = "agent.toml"
DOCKER_SOCKET = "/var/run/docker.sock"
_NAMES = {
    "MANAGEMENT_URL": "management_url",
    "REGISTRATION_TOKEN": "registration_token",
    "DEVICE_ID": "device_id",
    "STACK_VERSION": "stack_version",
}
_INTERVAL_NAME = "HEARTBEAT_INTERVAL"


class SpoolSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`heartbeats`: keep them until receipted, not only events."""

    heartbeats: bool = True
    rows_limit: Annotated[int, Meta(ge=10, le=100_000)] = 20_000
    size_limit_bytes: Annotated[int, Meta(ge=2**20, le=2**30)] = 32 * 2**20


class ConnectorsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`docker_socket`: a path, empty for none, or `auto`: the usual one if it is there."""

    file: str = ""
    docker_socket: str = "auto"
    docker_name_pattern: str = "^connector[-_]"
    docker_type_label: str = "fleet.connector.type"
    poll_interval_s: Annotated[int, Meta(ge=1, le=3600)] = 10


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything the agent can be told."""

    management_url: str = ""
    registration_token: str = ""
    device_id: str = ""
    heartbeat_interval_s: Annotated[int, Meta(ge=INTERVAL_MIN_S, le=INTERVAL_MAX_S)] = 30
    stack_version: Annotated[str, Meta(min_length=1, max_length=256)] = "dev"
    disk_path: str = "/"
    spool: SpoolSection = SpoolSection()
    connectors: ConnectorsSection = ConnectorsSection()


def load(file: Path | None, data_path: Path, environment: Mapping[str, str]) -> Settings:
    """The settings in force. Raises `ConfigError` with what to change."""
    path = file or data_path / FILE_NAME
    found = _read(path, optional=file is None)
    document = found or {}
    for name, key in _NAMES.items():
        if environment.get(name):
            document[key] = environment[name]
    if environment.get(_INTERVAL_NAME):
        document["heartbeat_interval_s"] = _interval_s(environment[_INTERVAL_NAME])
    try:
        settings = msgspec.convert(document, Settings)
        re.compile(settings.connectors.docker_name_pattern)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{'configuration' if found is None else path}: {error}") from error
    except re.error as error:
        raise ConfigError(f"connectors.docker_name_pattern: {error}") from error
    return settings


def _read(path: Path, *, optional: bool) -> dict[str, Any] | None:
    """What the file says; None where there is none and there need not be one."""
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except PermissionError as error:
        hint = f": {ELSEWHERE}" if optional else ""
        raise ConfigError(f"{path} can't be read ({error.strerror}){hint}") from error
    except (FileNotFoundError, NotADirectoryError) as error:
        if optional:
            return None
        raise ConfigError(f"{path} can't be read: {error}") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} can't be read: {error}") from error


def _interval_s(text: str) -> int:
    if text.isascii() and text.isdigit() and INTERVAL_MIN_S <= int(text[:9]) <= INTERVAL_MAX_S:
        return int(text)
    raise ConfigError(
        f"{_INTERVAL_NAME} must be a whole number of seconds from {INTERVAL_MIN_S} to "
        f"{INTERVAL_MAX_S}, not {text[:40]!r}"
    )
