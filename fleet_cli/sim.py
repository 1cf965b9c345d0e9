"""`fleet sim …`: simulated devices, registered first and then run.

The simulator says who its devices are (`--list`, JSON lines); they are registered over MQTT like
any other, page by page; then this process becomes the simulator.
"""

from __future__ import annotations

import asyncio
import math
import os
import re
import subprocess
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from fleet_cli.apps import new_app
from fleet_cli.asking import Target
from fleet_cli.errors import EXIT_CODES, CommandFailed
from fleet_cli.options import (
    DEFAULT_OPERATOR,
    DEFAULT_TIMEOUT_S,
    DEFAULT_URL,
    BrokerUrl,
    OperatorName,
    TimeoutSeconds,
)
from fleet_cli.output import resolve, say
from fleet_cli.programs import command_line, program_environment, run_instead
from fleet_core.contract.operations import (
    MAX_REGISTRATIONS,
    OPERATIONS,
    DeviceRegister,
    DeviceRegistered,
    NewDevice,
)

if TYPE_CHECKING:
    from fleet_cli.client import OperatorSession

MODULE = "simulator"
PAGE_BYTES = 64 * 1024
"""Of one request's devices: with the envelope it stays below the payload limit of the topic."""
ROSTER_LINE_BYTES = 16 * 1024
_PREFIX = re.compile(r"[a-z0-9][a-z0-9-]{0,40}")

app = new_app("Simulated devices.")


class RosterRow(msgspec.Struct, frozen=True):
    """One line of the simulator's roster; what else a line says is the simulator's business."""

    device_id: str
    name: str
    site: str
    tags: dict[str, str] = {}


@app.callback()
def _sim() -> None:
    """Simulated devices."""


def _prefix(text: str | None) -> str | None:
    if text is not None and _PREFIX.fullmatch(text) is None:
        raise typer.BadParameter(
            f"{text[:80]!r} can't begin an id: 1 to 41 of a-z, 0-9 and -, "
            "beginning with a letter or a digit"
        )
    return text


def _number(value: float | None) -> float | None:
    """Not a number is in every range."""
    if value is not None and math.isnan(value):
        raise typer.BadParameter("nan is no number")
    return value


DeviceCount = Annotated[
    int | None,
    typer.Option("--devices", min=1, max=99_999, help="How many; 100 if not given."),
]
IntervalSeconds = Annotated[
    int | None,
    typer.Option("--interval", min=1, max=300, help="Seconds between heartbeats; 30 if not given."),
]
Seed = Annotated[
    int | None, typer.Option("--seed", help="The same seed, the same fleet; 1 if not given.")
]
RampPerSecond = Annotated[
    float | None,
    typer.Option(
        "--ramp",
        callback=_number,
        min=0.1,
        max=10_000,
        help="Connections per second; 100 if not given.",
    ),
]
ChurnPercent = Annotated[
    float | None,
    typer.Option(
        "--churn",
        callback=_number,
        min=0,
        max=100,
        help="Percent that lose their line per minute; 0 if not given.",
    ),
]
SilentPercent = Annotated[
    float | None,
    typer.Option(
        "--silent",
        callback=_number,
        min=0,
        max=100,
        help="Percent that fall silent; 0 if not given.",
    ),
]
HotPercent = Annotated[
    float | None,
    typer.Option(
        "--hot",
        callback=_number,
        min=0,
        max=100,
        help="Percent under high load; 0 if not given.",
    ),
]
ForSeconds = Annotated[
    float | None,
    typer.Option(
        "--for",
        callback=_number,
        min=0.1,
        max=10_000_000,
        metavar="SECONDS",
        help="End after so long; without it, when told to.",
    ),
]
JournalFile = Annotated[
    str | None, typer.Option("--journal", metavar="FILE", help="What was sent and receipted.")
]
IdPrefix = Annotated[
    str | None,
    typer.Option(
        "--prefix",
        callback=_prefix,
        help="How their ids begin: 1 to 41 of a-z, 0-9 and -; sim if not given.",
    ),
]


@app.command()
def run(
    *,
    devices: DeviceCount = None,
    interval: IntervalSeconds = None,
    seed: Seed = None,
    ramp: RampPerSecond = None,
    churn: ChurnPercent = None,
    silent: SilentPercent = None,
    hot: HotPercent = None,
    for_s: ForSeconds = None,
    journal: JournalFile = None,
    prefix: IdPrefix = None,
    url: BrokerUrl = DEFAULT_URL,
    operator: OperatorName = DEFAULT_OPERATOR,
    timeout: TimeoutSeconds = DEFAULT_TIMEOUT_S,
) -> None:
    """Register simulated devices where they are missing, then run them until told to stop."""
    flags = simulator_flags(
        {
            "--devices": devices,
            "--interval": interval,
            "--seed": seed,
            "--ramp": ramp,
            "--churn": churn,
            "--silent": silent,
            "--hot": hot,
            "--for": for_s,
            "--journal": journal,
            "--prefix": prefix,
        }
    )
    new, known = asyncio.run(register_roster(Target(url, operator, timeout), flags))
    say(f"{new:,} devices registered, {known:,} were there", resolve(None), new=new, known=known)
    run_instead(MODULE, [*flags, f"--url={url}"])


def simulator_flags(chosen: dict[str, int | float | str | None]) -> list[str]:
    """The flags that were given, as the simulator takes them; its own defaults fill the rest.

    >>> simulator_flags({"--devices": 5, "--seed": None, "--hot": 2.5})
    ['--devices=5', '--hot=2.5']
    """
    return [f"{name}={value}" for name, value in chosen.items() if value is not None]


async def register_roster(target: Target, flags: Sequence[str]) -> tuple[int, int]:
    """Register every device of the roster; gives how many were new and how many were known."""
    command = command_line(MODULE, ["--list", *flags])
    new = known = 0
    async with target.session() as session:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=program_environment(os.environ),
            limit=ROSTER_LINE_BYTES,
        )
        try:
            async for page in _pages(process):
                answer = await _register(session, page, target.timeout_s)
                new, known = new + len(answer.registered), known + len(answer.existing)
            code = await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    if code:
        word = "usage" if code == EXIT_CODES["usage"] else "internal"
        raise CommandFailed(word, f"the simulator's roster ended with exit code {code}")
    return new, known


async def _register(
    session: OperatorSession, page: Sequence[NewDevice], timeout_s: float
) -> DeviceRegistered:
    params = DeviceRegister(devices=list(page), skip_existing=True)
    answer: DeviceRegistered = await session.request(
        OPERATIONS["device.register"], params, timeout_s
    )
    return answer


async def _pages(process: asyncio.subprocess.Process) -> AsyncIterator[list[NewDevice]]:
    """The roster in pages that one request holds, by number and by size."""
    assert process.stdout is not None  # noqa: S101 (stdout=PIPE)
    decoder = msgspec.json.Decoder(RosterRow)
    page: list[NewDevice] = []
    size_bytes = 0
    try:
        async for line in process.stdout:
            row = decoder.decode(line)
            if len(page) == MAX_REGISTRATIONS or size_bytes + len(line) > PAGE_BYTES:
                yield page
                page, size_bytes = [], 0
            page.append(
                NewDevice(device_id=row.device_id, name=row.name, site=row.site, tags=row.tags)
            )
            size_bytes += len(line)
    except (msgspec.MsgspecError, ValueError) as error:
        raise CommandFailed("internal", f"the simulator's roster can't be read: {error}") from error
    if page:
        yield page
