"""The data directory of one installation: where it is by default, and who may use it.

One process at a time owns it, told by a lock the kernel takes back however the process ends. The
file `lock` stays; it holds the owner's pid for people, nothing reads it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from fleet_core.contract.errors import ConfigError
from fleet_core.runtime.account import require_entry, server_account

NAME = "mqtt-fleet"
SYSTEM_DIRECTORY = Path("/var/lib") / NAME


class Taken(ConfigError):
    """Another process has what this one needs to have alone. `what` it is, `hint` what to do."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(f"{what}; {hint}")
        self.what = what
        self.hint = hint


def default_directory(environment: Mapping[str, str]) -> Path:
    """The user's data home (XDG base directories); root's lies where its servers can enter."""
    if os.geteuid() == 0 and not environment.get("XDG_DATA_HOME"):
        return SYSTEM_DIRECTORY
    home = environment.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(home) / NAME


def let_servers_enter(directory: Path) -> None:
    """Where root runs the platform, let the database's own user through a directory that we have
    just made. The mode of one that others made is theirs."""
    if server_account() is not None:
        directory.chmod(0o711)


@contextlib.contextmanager
def owned(directory: Path) -> Iterator[Path]:
    """Make `directory` if it is missing and own it for the length of a block.

    Raises `Taken` while another process owns it, `ConfigError` when it can't be used.
    """
    try:
        if not directory.exists():
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            let_servers_enter(directory)
        if not directory.is_dir():
            raise NotADirectoryError(f"{directory} is no directory")
        require_entry(server_account(), directory)
        lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ConfigError(f"the data directory {directory} can't be used: {error}") from error
    try:
        _lock(lock, directory)
        yield directory.resolve()
    finally:
        os.close(lock)


def _lock(lock: int, directory: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Taken(
            f"the data directory {directory} is in use by another process",
            "stop that one, or choose another directory with --data-dir",
        ) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
