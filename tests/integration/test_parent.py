"""A process that asked for it ends with the one that started it, by the kernel or by looking."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import pytest

from tests.fixtures.brokers import REPOSITORY
from tests.fixtures.eventually import eventually

CHILD = """
import signal, sys
from fleet_core.runtime import parent
parent.POLL_INTERVAL_S = 0.05
if sys.argv[1] == "looking":
    parent._ask_kernel = lambda number: False
parent.end_with_parent()
sys.stdout.write("ready\\n")
sys.stdout.flush()
signal.pause()
"""
PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]])"


@pytest.mark.parametrize("way", ["kernel", "looking"])
async def test_a_child_ends_with_its_parent(way: str) -> None:
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PARENT, CHILD, way),
        cwd=REPOSITORY,
        stdout=asyncio.subprocess.PIPE,
    )
    assert parent.stdout is not None
    assert await asyncio.wait_for(parent.stdout.readline(), 10) == b"ready\n"
    os.kill(parent.pid, signal.SIGKILL)
    await parent.wait()
    # the child holds the other end of the pipe: it is gone when the pipe ends
    await eventually(parent.stdout.at_eof)
