"""The supervisor, with small programs in the place of the platform's."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from functools import partial
from pathlib import Path

import psutil
import pytest

from fleet_core.runtime import supervisor as module
from fleet_core.runtime.supervisor import (
    Child,
    ChildFailed,
    Interrupted,
    Supervisor,
    until_signalled,
)
from tests.fixtures.eventually import eventually

SLEEPER = "import signal; print('here', flush=True); signal.pause()"
STUBBORN = (
    "import signal; signal.signal(15, signal.SIG_IGN); print('here', flush=True)\n"
    "while 1: signal.pause()"
)
FAILING = "import sys; sys.exit('no configuration')"


def child(name: str, program: str, *, stop_timeout_s: float = 5) -> Child:
    return Child(
        name=name,
        command=(sys.executable, "-c", program),
        environment=dict(os.environ),
        stop_timeout_s=stop_timeout_s,
    )


def says_here(log: Path) -> bool:
    return "here" in log.read_text()


def log_of(directory: Path, name: str) -> str:
    return (directory / f"{name}.log").read_text()


async def test_children_stop_in_reverse_and_none_is_left(tmp_path: Path) -> None:
    order = tmp_path / "order"
    program = (
        "import signal, sys\n"
        f"def stop(*_): open({str(order)!r}, 'a').write(NAME); sys.exit(0)\n"
        "signal.signal(15, stop); print('here', flush=True); signal.pause()"
    )
    async with Supervisor(tmp_path / "logs") as supervisor:
        for name in ("a", "b", "c"):
            await supervisor.start(child(name, f"NAME = {name!r}\n{program}"))
            log = tmp_path / "logs" / f"{name}.log"
            await eventually(partial(says_here, log))
        pids = supervisor.pids()
        assert pids.keys() == {"a", "b", "c"}
    assert order.read_text() == "cba"
    assert not any(psutil.pid_exists(pid) for pid in pids.values())


async def test_a_child_that_ignores_the_signal_is_killed_with_its_own(tmp_path: Path) -> None:
    grandchild = f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {STUBBORN!r}])\n"
    async with Supervisor(tmp_path) as supervisor:
        await supervisor.start(child("stubborn", grandchild + STUBBORN, stop_timeout_s=0.2))
        await eventually(lambda: log_of(tmp_path, "stubborn").count("here") == 2)
        family = psutil.Process(supervisor.pids()["stubborn"])
        pids = [family.pid, *(process.pid for process in family.children())]
        assert len(pids) == 2

    def all_gone() -> bool:
        return not any(_alive(pid) for pid in pids)

    await eventually(all_gone)
    assert "is killed" in log_of(tmp_path, "stubborn")


async def test_a_child_leads_a_session_of_its_own(tmp_path: Path) -> None:
    async with Supervisor(tmp_path) as supervisor:
        await supervisor.start(child("a", SLEEPER))
        assert os.getsid(supervisor.pids()["a"]) == supervisor.pids()["a"]


async def test_a_crashed_child_is_started_again_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RESTART_FIRST_S", 0.01)
    told: list[str] = []
    async with Supervisor(tmp_path, told.append) as supervisor:
        await supervisor.start(child("a", SLEEPER))
        first = supervisor.pids()["a"]
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: supervisor.pids().get("a", first) != first)
        assert supervisor.restarts() == {"a": 1}
    assert told == ["a was ended by SIGKILL; it is started again"]
    assert "was ended by SIGKILL" in log_of(tmp_path, "a")


async def test_a_child_that_crashes_again_and_again_ends_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RESTART_FIRST_S", 0.01)
    monkeypatch.setattr(module, "RESTART_LIMIT_S", 0.02)
    async with Supervisor(tmp_path) as supervisor:
        await supervisor.start(child("a", FAILING))
        with pytest.raises(ChildFailed, match="5 times in a row") as failure:
            await supervisor.unless_failed(asyncio.sleep(30))
    assert failure.value.name == "a"
    assert "no configuration" in failure.value.last_words


async def test_a_child_that_ends_before_it_is_ready_is_not_tried_again(tmp_path: Path) -> None:
    async def never() -> bool:
        return False

    async with Supervisor(tmp_path) as supervisor:
        failing = Child(
            name="a",
            command=(sys.executable, "-c", FAILING),
            environment=dict(os.environ),
            ready=never,
        )
        with pytest.raises(ChildFailed, match="exit code 1") as failure:
            await supervisor.start(failing)
    assert "no configuration" in failure.value.last_words


async def test_a_child_that_is_never_ready_is_given_up(tmp_path: Path) -> None:
    async def never() -> bool:
        return False

    async with Supervisor(tmp_path) as supervisor:
        slow = Child(
            name="a",
            command=(sys.executable, "-c", SLEEPER),
            environment=dict(os.environ),
            ready=never,
            start_timeout_s=0.1,
        )
        with pytest.raises(ChildFailed, match=r"not ready within 0\.1 s"):
            await supervisor.start(slow)


async def test_a_program_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    async with Supervisor(tmp_path) as supervisor:
        absent = Child(name="a", command=("/nonexistent/program",), environment={})
        with pytest.raises(ChildFailed, match="can't be started"):
            await supervisor.start(absent)


async def test_run_waits_for_the_end_and_tells_of_a_failure(tmp_path: Path) -> None:
    async with Supervisor(tmp_path) as supervisor:
        await supervisor.run(child("good", "pass"))
        assert supervisor.pids() == {}
        with pytest.raises(ChildFailed, match="no configuration"):
            await supervisor.run(child("bad", FAILING))


async def test_only_the_first_signal_counts() -> None:
    cleaned = []

    async def work() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        try:
            await asyncio.sleep(30)
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(0.05)
            cleaned.append(True)

    with pytest.raises(Interrupted) as interrupted:
        await until_signalled(work())
    assert interrupted.value.number is signal.SIGTERM
    assert cleaned == [True]


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
