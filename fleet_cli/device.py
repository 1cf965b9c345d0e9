"""`fleet device …`: register, install, list, show, events, watch."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fleet_cli.apps import new_app
from fleet_cli.asking import Target, ask, read_window
from fleet_cli.errors import CommandFailed, UsageFailed
from fleet_cli.options import (
    DEFAULT_OPERATOR,
    DEFAULT_TIMEOUT_S,
    DEFAULT_URL,
    AllOption,
    BrokerUrl,
    LimitOption,
    OffsetOption,
    OperatorName,
    Output,
    PageOption,
    SiteOptions,
    TagOptions,
    TimeoutSeconds,
    read_sites,
    read_tags,
)
from fleet_cli.output import resolve, write_document
from fleet_cli.slug import chosen_id, device_id_of
from fleet_cli.words import (
    MAX_LINE_CHARACTERS,
    MAX_NAME_CHARACTERS,
    MAX_SITE_CHARACTERS,
    line_of,
)
from fleet_core.contract.messages import DeviceHealth
from fleet_core.contract.operations import (
    OPERATIONS,
    DeviceEventPage,
    DeviceEvents,
    DeviceList,
    DevicePage,
    DeviceRegister,
    DeviceShow,
    DeviceSort,
    NewDevice,
)
from fleet_core.runtime.clock import now_utc

app = new_app("Devices: who they are and how they are.")

DeviceId = Annotated[str, typer.Argument(metavar="ID", help="The device's id.")]
StatusOptions = Annotated[
    list[DeviceHealth] | None, typer.Option("--status", help="Only this status; may be repeated.")
]


@app.command()
def register(
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What people call it.")],
    site: Annotated[str, typer.Option("--site", help="Where it stands.")],
    device_id: Annotated[
        str, typer.Option("--id", help="Its id; by default made of the name.", show_default=False)
    ] = "",
    tag: TagOptions = None,
    owner: Annotated[str, typer.Option("--owner", help="Whose it is.", show_default=False)] = "",
    url: BrokerUrl = DEFAULT_URL,
    operator: OperatorName = DEFAULT_OPERATOR,
    timeout: TimeoutSeconds = DEFAULT_TIMEOUT_S,
    output: Output = None,
) -> None:
    """Register a device and print the one line that installs it."""
    from fleet_cli.registration import registration_of, write_registration

    identity = device_id_of(name, device_id)
    new = NewDevice(
        device_id=identity,
        name=line_of("name", name, MAX_NAME_CHARACTERS),
        site=line_of("site", site, MAX_SITE_CHARACTERS),
        tags=read_tags(tag),
        owner=line_of("owner", owner, MAX_LINE_CHARACTERS) if owner else "",
    )
    try:
        ask(Target(url, operator, timeout), "device.register", DeviceRegister(devices=[new]))
    except CommandFailed as error:
        if error.code == "conflict":
            error.hint = f"`fleet device install {identity}` prints its install line again"
        raise
    write_registration(registration_of(identity, site, url), resolve(output))


@app.command()
def install(
    *,
    device_id: DeviceId,
    url: BrokerUrl = DEFAULT_URL,
    operator: OperatorName = DEFAULT_OPERATOR,
    timeout: TimeoutSeconds = DEFAULT_TIMEOUT_S,
    output: Output = None,
) -> None:
    """Print the one line that installs a registered device, once more."""
    from fleet_cli.registration import registration_of, write_registration

    params = DeviceShow(device_id=device_id, events=0)
    device = ask(Target(url, operator, timeout), "device.show", params).device
    write_registration(registration_of(device.device_id, device.site, url), resolve(output))


@app.command("list")
def list_devices(
    *,
    status: StatusOptions = None,
    site: SiteOptions = None,
    tag: TagOptions = None,
    text: Annotated[
        str, typer.Option("--text", help="In id, name, hostname or addresses.", show_default=False)
    ] = "",
    sort: Annotated[
        str, typer.Option("--sort", metavar="[-]COLUMN", help="Order; a leading - reverses it.")
    ] = "id",
    limit: LimitOption = None,
    offset: OffsetOption = None,
    page: PageOption = None,
    everything: AllOption = False,
    url: BrokerUrl = DEFAULT_URL,
    operator: OperatorName = DEFAULT_OPERATOR,
    timeout: TimeoutSeconds = DEFAULT_TIMEOUT_S,
    output: Output = None,
) -> None:
    """List devices. Filters are joined by and, a repeated --status or --site by or."""
    from fleet_cli.listings import DEVICES
    from fleet_cli.paging import write_list

    column, descending = read_sort(sort)
    tags, sites, statuses = read_tags(tag), read_sites(site), list(status or ())

    async def page_of(session: Any, rows: int, start: int) -> tuple[list[Any], int]:
        params = DeviceList(
            status=statuses,
            site=sites,
            tags=tags,
            text=text,
            sort=column,
            descending=descending,
            limit=rows,
            offset=start,
        )
        answer: DevicePage = await session.request(OPERATIONS["device.list"], params, timeout)
        return answer.devices, answer.total

    window = read_window(limit, offset, page, everything=everything)
    write_list(Target(url, operator, timeout), window, DEVICES, resolve(output), page_of)


@app.command()
def show(
    *,
    device_id: DeviceId,
    events: Annotated[
        int, typer.Option("--events", min=0, max=100, help="So many of its last events.")
    ] = 10,
    url: BrokerUrl = DEFAULT_URL,
    operator: OperatorName = DEFAULT_OPERATOR,
    timeout: TimeoutSeconds = DEFAULT_TIMEOUT_S,
    output: Output = None,
) -> None:
    """Show everything the registry knows about one device."""
    params = DeviceShow(device_id=device_id, events=events)
    detail = ask(Target(url, operator, timeout), "device.show", params)

    def table() -> Any:
        from fleet_cli.device_page import device_page

        return device_page(detail, now_utc())

    write_document(detail, resolve(output), names=[detail.device.device_id], table=table)


@app.command()
def events(
    *,
    device_id: DeviceId,
    kind: Annotated[
        str, typer.Option("--kind", help="Only this kind of event.", show_default=False)
    ] = "",
    limit: LimitOption = None,
    offset: OffsetOption = None,
    page: PageOption = None,
    everything: AllOption = False,
    url: BrokerUrl = DEFAULT_URL,
    operator: OperatorName = DEFAULT_OPERATOR,
    timeout: TimeoutSeconds = DEFAULT_TIMEOUT_S,
    output: Output = None,
) -> None:
    """List what happened to a device, newest first."""
    from fleet_cli.listings import DEVICE_EVENTS
    from fleet_cli.paging import write_list

    async def page_of(session: Any, rows: int, start: int) -> tuple[list[Any], int]:
        params = DeviceEvents(device_id=device_id, kind=kind, limit=rows, offset=start)
        answer: DeviceEventPage = await session.request(
            OPERATIONS["device.events"], params, timeout
        )
        return answer.events, answer.total

    window = read_window(limit, offset, page, everything=everything)
    write_list(Target(url, operator, timeout), window, DEVICE_EVENTS, resolve(output), page_of)


@app.command()
def watch(
    *,
    device_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Only these devices.")
    ] = None,
    status: StatusOptions = None,
    site: SiteOptions = None,
    tag: TagOptions = None,
    text: Annotated[str, typer.Option("--text", help="In id or name.", show_default=False)] = "",
    for_s: Annotated[
        float | None, typer.Option("--for", min=0, metavar="SECONDS", help="End after so long.")
    ] = None,
    url: BrokerUrl = DEFAULT_URL,
    operator: OperatorName = DEFAULT_OPERATOR,
    timeout: TimeoutSeconds = DEFAULT_TIMEOUT_S,
    output: Output = None,
) -> None:
    """Follow devices live: a table on a terminal, a line for each change in a pipe.

    A lost connection is mended; only one that never came about ends it.
    """
    from fleet_cli.watch import Selection, watch_devices

    selection = Selection(
        ids=frozenset(chosen_id(each) for each in device_ids or ()),
        statuses=frozenset(status or ()),
        sites=frozenset(read_sites(site)),
        tags=read_tags(tag),
        text=text,
    )
    watch_devices(Target(url, operator, timeout), selection, for_s, resolve(output))


def read_sort(text: str) -> tuple[DeviceSort, bool]:
    """The column and whether it is reversed. Raises `UsageFailed`.

    >>> read_sort("-cpu")
    (<DeviceSort.CPU: 'cpu'>, True)
    """
    word = text.removeprefix("-")
    if word not in set(DeviceSort):
        raise UsageFailed(
            f"there is no column {word[:80]!r} to sort by", f"one of {', '.join(DeviceSort)}"
        )
    return DeviceSort(word), text.startswith("-")
