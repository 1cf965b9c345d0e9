"""Whom a server runs as when root starts it: PostgreSQL refuses to be root.

- Started by an ordinary user, a server runs as that user and nothing here does anything.
- Started by root, it runs as the system user `embedded_postgres`, made with `useradd` if missing.
- No mode of a directory that is not ours is ever changed. A data directory the system user can't
  enter is refused; programs it can't read (a checkout in a closed home) are copied instead.
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import msgspec

from fleet_core.contract.errors import ConfigError

SYSTEM_USER = "embedded_postgres"
COMMAND_TIMEOUT_S = 30.0


class Account(msgspec.Struct, frozen=True):
    """A user of the operating system."""

    name: str
    uid: int
    gid: int


def server_account() -> Account | None:
    """The system user a server runs as, or None where it runs as whoever started it.

    Raises `ConfigError` where root can't have such a user.
    """
    if os.geteuid() != 0:
        return None
    account = _find()
    if account is None:
        _create()
        account = _find()
    if account is None:
        raise ConfigError(
            f"PostgreSQL does not run as root, and the system user {SYSTEM_USER} can't be made "
            f"(useradd); start it as an ordinary user, or bring a database: FLEET_DATABASE_URL"
        )
    return account


def run_as(account: Account | None) -> dict[str, Any]:
    """The arguments of `subprocess` that start a program as `account`, without its groups."""
    if account is None:
        return {}
    return {"user": account.uid, "group": account.gid, "extra_groups": ()}


def require_entry(account: Account | None, directory: Path) -> None:
    """Raise `ConfigError` unless `account` can reach what lies in `directory`."""
    closed = None if account is None else closed_directory(account, directory)
    if closed is not None:
        raise ConfigError(
            f"root's PostgreSQL runs as the system user {SYSTEM_USER}, which can't enter {closed}; "
            f"choose another data directory, or start it as an ordinary user"
        )


def closed_directory(account: Account, directory: Path) -> Path | None:
    """The outermost directory on the way to `directory` that `account` can't enter, if any."""
    path = directory.resolve()
    for step in (*reversed(path.parents), path):
        status = step.stat()
        bit = stat.S_IXOTH
        if status.st_uid == account.uid:
            bit = stat.S_IXUSR
        elif status.st_gid == account.gid:
            bit = stat.S_IXGRP
        if not status.st_mode & bit:
            return step
    return None


def private_directory(directory: Path, account: Account | None) -> Path:
    """Make `directory` if it is missing; whoever runs the server owns it, nobody else enters.

    Raises `ConfigError` when something of somebody else stands there, a symbolic link included.
    """
    directory.mkdir(mode=0o700, exist_ok=True)
    status = directory.lstat()
    owner = os.geteuid() if account is None else account.uid
    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in (owner, os.geteuid()):
        raise ConfigError(f"{directory} belongs to somebody else")
    if account is not None:
        os.chown(directory, account.uid, account.gid)
    directory.chmod(0o700)
    return directory


def _find() -> Account | None:
    try:
        entry = pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        return None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _create() -> None:
    """Ask for the user; two that ask at once are fine, whoever is second finds it made."""
    useradd = shutil.which("useradd", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if useradd is not None:
        subprocess.run(
            (useradd, "--system", "--no-create-home", "--shell", "/bin/false", SYSTEM_USER),
            check=False,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=COMMAND_TIMEOUT_S,
        )
