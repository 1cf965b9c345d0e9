"""The agent's directory on the device: who it is, where it belongs, and what it still owes.

- `device-id`: written once, at the first start. `management-url`: then, and when a code names
  another broker. Both atomically.
- `spool.sqlite3`: records without a receipt. `device-config.json` is reserved for configuration.
- `lock`: held while an agent runs, so that no second one uses the same identity.
- The directory is readable by its owner only.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from fleet_core.contract.errors import ConfigError

SYSTEM_PATH = Path("/var/lib/mqtt-fleet-agent")
DIRECTORY_NAME = "mqtt-fleet-agent"
FILE_LIMIT_BYTES = 4096
ELSEWHERE = "name another directory with --data-dir or FLEET_AGENT_DATA_DIR"
"""How to go on where this directory is not the right one."""


def default_path(home: Path, state_home: str, *, root: bool) -> Path:
    """Where data goes when nobody says: the system's place for root, XDG's for everybody else."""
    if root:
        return SYSTEM_PATH
    return (Path(state_home) if state_home else home / ".local" / "state") / DIRECTORY_NAME


class DataDirectory:
    """An existing, locked directory. Raises `ConfigError` where it can't be had."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)  # a mode that others chose stays
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(
                f"the data directory {path} can't be used ({error}): {ELSEWHERE}"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise ConfigError(f"another agent is running on {path}: {ELSEWHERE}") from error

    @property
    def spool_path(self) -> Path:
        """The file of the spool."""
        return self.path / "spool.sqlite3"

    def read(self, name: str) -> str | None:
        """The one line in a file; None when there is none. Raises `ConfigError`."""
        path = self.path / name
        try:
            with path.open("rb") as file:
                return file.read(FILE_LIMIT_BYTES).decode("ascii").strip() or None
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} can't be read: {error}") from error

    def write(self, name: str, line: str) -> None:
        """Put one line in a file: afterwards it is there whole, or not at all."""
        path = self.path / name
        draft = path.with_name(f"{name}.new")
        try:
            with draft.open("w", encoding="ascii") as file:
                file.write(f"{line}\n")
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
            directory = os.open(self.path, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise ConfigError(f"{path} can't be written: {error}") from error

    def close(self) -> None:
        """Let go of the lock."""
        os.close(self._lock)
