"""A process that must not outlive the one that started it.

On Linux the kernel sends the signal (`prctl(PR_SET_PDEATHSIG)`); elsewhere a thread looks whether
the process has been given another parent. Call it early: a parent that dies before the call is not
noticed. The kernel means the *thread* that started the process, so start it from one that stays.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading

POLL_INTERVAL_S = 2.0
_PR_SET_PDEATHSIG = 1


def end_with_parent(number: signal.Signals = signal.SIGTERM) -> None:
    """Have `number` sent to this process when its parent ends, or if that is happening now."""
    parent_pid = os.getppid()
    if not _ask_kernel(number):
        threading.Thread(target=_watch, args=(parent_pid, number), daemon=True).start()
    if os.getppid() != parent_pid:
        os.kill(os.getpid(), number)


def _ask_kernel(number: signal.Signals) -> bool:
    """Whether this kernel knows how to do it."""
    if not sys.platform.startswith("linux"):
        return False
    refused: int = ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    return not refused


def _watch(parent_pid: int, number: signal.Signals) -> None:
    pause = threading.Event()
    while os.getppid() == parent_pid:
        pause.wait(POLL_INTERVAL_S)
    os.kill(os.getpid(), number)
