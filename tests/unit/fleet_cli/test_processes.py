from __future__ import annotations

import shutil
import signal
import sys
from datetime import UTC, datetime

import pytest

from fleet_cli import processes
from fleet_cli.errors import UsageFailed
from fleet_cli.processes import tied
from fleet_cli.stack import read_roles
from fleet_core.contract.codec import encode
from fleet_core.contract.messages import Presence, ServiceStatus

T0 = datetime(2030, 1, 1, tzinfo=UTC)


def status(state: Presence, pid: int) -> bytes:
    return encode(
        ServiceStatus(
            state=state,
            reason="birth",
            role="ingest",
            instance="ingest",
            pid=pid,
            started_at=T0,
            at=T0,
            interval_s=10,
        )
    )


@pytest.mark.parametrize(
    ("payload", "roles"),
    [
        (status(Presence.ONLINE, 7), {"ingest"}),
        (status(Presence.ONLINE, 8), set()),
        (status(Presence.OFFLINE, 7), set()),
        (b"", set()),
        (b"{", set()),
    ],
)
def test_only_a_process_started_here_counts_as_online(payload: bytes, roles: set[str]) -> None:
    assert processes._online_role(payload, {"ingest": 7}) == roles


@pytest.mark.parametrize("text", ["", " , ", "ingest,nonsense"])
def test_roles_that_do_not_exist_are_refused(text: str) -> None:
    with pytest.raises(UsageFailed):
        read_roles(text)


def test_a_role_named_twice_runs_once() -> None:
    assert read_roles("operator, ingest,operator") == ("operator", "ingest")


def test_a_foreign_program_is_tied_where_the_system_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/setpriv")
    expected = ("/usr/bin/setpriv", "--pdeathsig", "INT", "--", "postgres", "-D", "x")
    assert tied(signal.SIGINT, ("postgres", "-D", "x")) == expected
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert tied(signal.SIGINT, ("postgres",)) == ("postgres",)
