"""Write docs/demo.svg: the live view of a running platform, as `fleet demo` shows it.

fleet up --port 18830 &  fleet sim run --url mqtt://127.0.0.1:18830 --devices 25 …
python tools/picture.py mqtt://127.0.0.1:18830
"""

from __future__ import annotations

import asyncio
import re
import sys
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI

from fleet_cli.client import operator_session
from fleet_cli.follow import LiveFleet
from fleet_cli.live import fleet_view
from fleet_core.contract.operations import MAX_PAGE, OPERATIONS, DeviceList
from fleet_core.runtime.clock import now_utc

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "demo.svg"
WIDTH = 84
QUIET_S = 2.0


async def _fleet(url: str) -> LiveFleet:
    """What the tenant's retained topics say; done when nothing new came for two seconds."""
    fleet = LiveFleet()
    async with operator_session(url) as session:
        changes = session.follow("default")
        try:
            while True:
                fleet.apply(await asyncio.wait_for(anext(changes), QUIET_S))
        except TimeoutError:
            page = await session.request(OPERATIONS["device.list"], DeviceList(limit=MAX_PAGE))
            fleet.refresh(page.devices)
            return fleet


def main() -> None:
    """Draw the fleet at the broker that the first argument names."""
    fleet = asyncio.run(_fleet(sys.argv[1]))
    console = Console(record=True, width=WIDTH, file=StringIO(), force_terminal=True)
    console.print(fleet_view(fleet.devices(), now_utc()))
    picture = console.export_svg(title="make demo", theme=MONOKAI)
    # rich points at a web font; a picture in a repository asks nobody for anything.
    PICTURE.write_text(re.sub(r"@font-face \{.*?\}", "", picture, flags=re.DOTALL))


if __name__ == "__main__":
    main()
