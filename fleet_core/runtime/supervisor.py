"""One process that starts the others, watches them, and ends them.

Rules:

- Each child leads a session of its own, so that Ctrl-C in a terminal reaches the supervisor only.
- Children start in order, each once the one before is ready, and stop in reverse: signal, bounded
  wait, SIGKILL to the whole group. Nothing survives the block.
- A child that ends by itself is started again after a jittered delay. `FAST_CRASHES_LIMIT` crashes
  in a row, each within `FAST_CRASH_S` of its start, end the whole: that is no accident.
- A child that ends before it was ready for the first time ends the whole at once.
- What children say goes to `<log_directory>/<name>.log`, which is bounded. Files, because the
  terminal belongs to what a person asked for (a live table, five lines of `fleet up`) and because
  the last words of a crash have to be there afterwards.

Children end themselves when the supervisor is killed (`parent.py`); that is not done here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from fleet_core.contract.errors import FleetError, Unavailable
from fleet_core.runtime.account import Account, run_as
from fleet_core.runtime.backoff import Backoff
from fleet_core.runtime.bounded_log import BoundedLog

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
FAST_CRASH_S = 30.0
FAST_CRASHES_LIMIT = 5
RESTART_FIRST_S = 0.5
RESTART_LIMIT_S = 15.0
READY_POLL_S = 0.02
LAST_WORDS_TIMEOUT_S = 1.0
_READ_BYTES = 65_536

T = TypeVar("T")


class ChildFailed(Unavailable):
    """A child ended and won't be started again. `last_words` is the end of what it said."""

    def __init__(self, name: str, why: str, last_words: str) -> None:
        super().__init__(f"{name} {why}" + (f":\n{last_words}" if last_words else ""))
        self.name = name
        self.why = why
        self.last_words = last_words


class Interrupted(FleetError):
    """Somebody asked this process to end. `number` is the signal."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.number = number


class Child(msgspec.Struct, frozen=True, kw_only=True):
    """A process to be kept running. `environment` is all it gets; `ready` is asked until true,
    for `start_timeout_s` at most. Its working directory is `/`: paths are absolute."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    ready: Callable[[], Awaitable[bool]] | None = None
    start_timeout_s: float = 30.0
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout_s: float = 15.0
    account: Account | None = None


class Supervisor:
    """The children of one process. Use it as an `async with` block: leaving it stops them all."""

    def __init__(
        self, log_directory: Path, tell: Callable[[str], None] = lambda _sentence: None
    ) -> None:
        """`tell` is given a sentence whenever a child ended and is started again."""
        self._log_directory = log_directory
        self._tell = tell
        self._running: list[_Running] = []
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def __aenter__(self) -> Self:
        self._log_directory.mkdir(mode=0o700, exist_ok=True)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()
        if not self._failed.cancel():
            self._failed.exception()  # asked for, so that asyncio does not complain

    async def start(self, child: Child) -> None:
        """Start `child` and return once it is ready. Raises `ChildFailed` when it ends instead."""
        running = await self._spawn(child)
        await _until_ready(running)
        running.keeper = asyncio.create_task(self._keep(running))

    async def run(self, child: Child) -> None:
        """Run `child` once, to its end. Raises `ChildFailed` unless it ends with 0."""
        running = await self._spawn(child)
        try:
            async with asyncio.timeout(child.start_timeout_s):
                code = await running.ended()
        except TimeoutError:
            raise running.failure(f"took more than {child.start_timeout_s:g} s") from None
        if code != 0:
            raise running.failure(_how_it_ended(code))
        self._running.remove(running)
        await running.stop()

    async def unless_failed(self, work: Coroutine[Any, Any, T]) -> T:
        """Do `work`, or raise `ChildFailed` as soon as a child is given up."""
        task = asyncio.create_task(work)
        try:
            await asyncio.wait((task, self._failed), return_when=asyncio.FIRST_COMPLETED)
            if self._failed.done():
                self._failed.result()
            return await task
        finally:
            await _cancel(task)

    async def forever(self) -> None:
        """Wait until a child is given up, which it raises as `ChildFailed`."""
        await asyncio.shield(self._failed)

    async def stop(self) -> None:
        """End all children, the youngest first. Bounded by their `stop_timeout_s`."""
        while self._running:
            running = self._running.pop()
            await _cancel(running.keeper)
            await running.stop()

    def pids(self) -> dict[str, int]:
        """The process id of each child that runs at this moment, by name."""
        return {r.child.name: r.process.pid for r in self._running if r.process.returncode is None}

    def restarts(self) -> dict[str, int]:
        """How often each child was started again, by name."""
        return {running.child.name: running.restarts for running in self._running}

    async def _spawn(self, child: Child) -> _Running:
        process = await _spawn(child)
        running = _Running(child, BoundedLog(self._log_directory, child.name), process)
        self._running.append(running)
        return running

    async def _keep(self, running: _Running) -> None:
        """Start the child again whenever it ends, until it ends too fast too often."""
        backoff = Backoff(RESTART_FIRST_S, RESTART_LIMIT_S)
        fast_crashes = 0
        while True:
            how = _how_it_ended(await running.ended())
            if running.age_s() >= FAST_CRASH_S:
                fast_crashes = 0
                backoff.reset()
            fast_crashes += 1
            if fast_crashes >= FAST_CRASHES_LIMIT:
                self._give_up(running.failure(f"{how}, {fast_crashes} times in a row"))
                return
            running.log.write(f"supervisor: {how}; starts again\n".encode())
            self._tell(f"{running.child.name} {how}; it is started again")
            await asyncio.sleep(backoff.next_s())
            try:
                running.attach(await _spawn(running.child))
            except ChildFailed as error:
                self._give_up(error)
                return

    def _give_up(self, error: ChildFailed) -> None:
        if not self._failed.done():
            self._failed.set_exception(error)


class _Running:
    """A child and the process it is at the moment."""

    def __init__(self, child: Child, log: BoundedLog, process: asyncio.subprocess.Process) -> None:
        self.child = child
        self.log = log
        self.restarts = -1
        self.keeper: asyncio.Task[None] | None = None
        self.attach(process)

    def attach(self, process: asyncio.subprocess.Process) -> None:
        """From now on the child is `process`."""
        self.process = process
        self.restarts += 1
        self._started_s = time.monotonic()
        self._reader = asyncio.create_task(self._read(process.stdout))

    def age_s(self) -> float:
        """Seconds since the present process was started."""
        return time.monotonic() - self._started_s

    async def ended(self) -> int:
        """Wait for the end; gives the exit code, below 0 for the number of a signal."""
        code = await self.process.wait()
        await asyncio.wait((self._reader,), timeout=LAST_WORDS_TIMEOUT_S)
        return code

    async def stop(self) -> None:
        """End the process and all it started, and keep what it still had to say."""
        if self.process.returncode is None:
            await self._end()
        await asyncio.wait((self._reader,), timeout=LAST_WORDS_TIMEOUT_S)
        await _cancel(self._reader)
        self.log.close()

    def failure(self, why: str) -> ChildFailed:
        """The error that says how this child ended, with its last words."""
        return ChildFailed(self.child.name, why, self.log.last_words())

    async def _end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(self.child.stop_signal)
        try:
            async with asyncio.timeout(self.child.stop_timeout_s):
                await self.process.wait()
        except TimeoutError:
            self.log.write(b"supervisor: does not end, is killed\n")
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        await self.process.wait()

    async def _read(self, stream: asyncio.StreamReader | None) -> None:
        while stream is not None and (data := await stream.read(_READ_BYTES)):
            self.log.write(data)


async def until_signalled(work: Coroutine[Any, Any, T]) -> T:
    """Do `work`; on SIGINT, SIGTERM or SIGHUP cancel it and raise `Interrupted`.

    Only the first signal counts: what a cancelled `work` cleans up is bounded, and a second Ctrl-C
    would leave a half.
    """
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work)
    signalled: list[signal.Signals] = []

    def on_signal(number: signal.Signals) -> None:
        if not signalled:
            signalled.append(number)
            task.cancel()

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    try:
        return await task
    except asyncio.CancelledError:
        if not signalled:
            raise
        raise Interrupted(signalled[0]) from None
    finally:
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)


async def _spawn(child: Child) -> asyncio.subprocess.Process:
    """Start the process. Raises `ChildFailed` when there is none. Cancelled, it leaves none."""
    try:
        return await asyncio.create_subprocess_exec(
            *child.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(child.environment),
            cwd="/",
            start_new_session=True,
            **run_as(child.account),
        )
    except OSError as error:
        raise ChildFailed(child.name, f"can't be started: {error}", "") from error


async def _until_ready(running: _Running) -> None:
    ready, ended = running.child.ready, asyncio.create_task(running.ended())
    timeout_s = running.child.start_timeout_s
    try:
        async with asyncio.timeout(timeout_s):
            while ready is not None and not await ready():
                await asyncio.wait((ended,), timeout=READY_POLL_S)
                if ended.done():
                    raise running.failure(_how_it_ended(ended.result()))
    except TimeoutError:
        raise running.failure(f"was not ready within {timeout_s:g} s") from None
    finally:
        await _cancel(ended)


async def _cancel(task: asyncio.Task[Any] | None) -> None:
    """Cancel `task` and wait for its end; whatever it raised was somebody else's to handle."""
    if task is not None:
        task.cancel()
        await asyncio.wait((task,))


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    return f"was ended by {signal.Signals(-code).name}"
