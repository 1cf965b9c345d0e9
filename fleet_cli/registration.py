"""What an operator needs after registering a device: the code, and the line to run on it."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import msgspec

from fleet_cli.formats import OutputFormat
from fleet_cli.output import write_document
from fleet_core.contract.enrolment import EnrolmentCode, encode_code

if TYPE_CHECKING:
    from rich.console import RenderableType


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """One registered device and how it gets its agent."""

    device_id: str
    site: str
    url: str
    registration_token: str
    install_command: str


def registration_of(device_id: str, site: str, url: str) -> Registration:
    """The enrolment code of a device and the line that carries it.

    >>> registration_of("gw-1", "berlin", "mqtt://127.0.0.1").install_command.split("=")[0]
    'REGISTRATION_TOKEN'
    """
    token = encode_code(EnrolmentCode(url, device_id))
    return Registration(
        device_id=device_id,
        site=site,
        url=url,
        registration_token=token,
        install_command=f"REGISTRATION_TOKEN={shlex.quote(token)} fleet-agent run",
    )


def write_registration(registration: Registration, output: OutputFormat) -> None:
    """For people: whose it is, then the line on its own, never cut or wrapped; for programs all."""
    write_document(
        registration,
        output,
        names=[registration.device_id],
        table=lambda: _heading(registration),
        last_line=registration.install_command,
    )


def _heading(registration: Registration) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from fleet_cli.tables import facts

    return Group(
        facts((("device", registration.device_id), ("site", registration.site))),
        Text("\nRun this on the device:\n"),
    )
