"""What an operator may ask: one parameter struct and one result type for each operation.

- An operation is `noun.verb`, the same two words as the `fleet` command that sends it.
- `mutates` says that doing it twice is not the same as doing it once: the answer to such a request
  is remembered under its `request_id`, so that a repeated request is answered, not repeated.
- A parameter that is not in the struct is refused: a misspelt filter must not list everything.
- Lists are paged: `limit` items from `offset`, `total` of all that match.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from fleet_core.contract.messages import (
    Connector,
    Count,
    DeviceHealth,
    DeviceInfo,
    Line,
    Metrics,
    Severity,
)

MAX_PAGE = 1000
MAX_REGISTRATIONS = 500
MAX_TAGS = 32

_LINE = r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]"
PRINTABLE = rf"^{_LINE}*\Z"
"""One line of text: nothing in it that a terminal or a log would obey."""
NOT_BLANK = rf"^{_LINE}*[^\s\x00-\x1f\x7f-\x9f]{_LINE}*\Z"
"""The same, with something to see in it."""
DeviceName = Annotated[str, Meta(min_length=1, max_length=128, pattern=NOT_BLANK)]
SiteName = Annotated[str, Meta(min_length=1, max_length=64, pattern=NOT_BLANK)]
TagKey = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}\Z")]
TagValue = Annotated[str, Meta(max_length=128, pattern=PRINTABLE)]
Tags = Annotated[dict[TagKey, TagValue], Meta(max_length=MAX_TAGS)]
PageLimit = Annotated[int, Meta(ge=1, le=MAX_PAGE)]


class Params(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all parameters."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all results."""


class ErrorCode(StrEnum):
    """The words an error envelope may carry; each has an exit code in the CLI (design §13)."""

    INTERNAL = "internal"
    USAGE = "usage"
    NOT_FOUND = "not_found"
    DENIED = "denied"
    CONFLICT = "conflict"
    TIMEOUT = "timeout"


class NewDevice(Params, frozen=True):
    """A device to be registered. `device_id` follows the grammar of device ids."""

    device_id: str
    name: DeviceName
    site: SiteName
    tags: Tags = {}
    owner: Annotated[str, Meta(max_length=256, pattern=PRINTABLE)] = ""


class DeviceRegister(Params, frozen=True):
    """All or nothing: `conflict` when one id is taken, unless `skip_existing`."""

    devices: Annotated[list[NewDevice], Meta(min_length=1, max_length=MAX_REGISTRATIONS)]
    skip_existing: bool = False


class DeviceRegistered(Result, frozen=True):
    """The ids that are new; with `skip_existing` also those that were there before."""

    registered: list[str]
    existing: list[str] = []


class DeviceSort(StrEnum):
    """What a device list can be ordered by; a leading `-` on the command line reverses it."""

    ID = "id"
    NAME = "name"
    SITE = "site"
    STATUS = "status"
    SCORE = "score"
    CPU = "cpu"
    RAM = "ram"
    DISK = "disk"
    SEEN = "seen"


class DeviceList(Params, frozen=True):
    """Filters are joined by and. `text` is searched in id, name, hostname and addresses."""

    status: list[DeviceHealth] = []
    site: Annotated[list[SiteName], Meta(max_length=100)] = []
    tags: Tags = {}
    text: Line = ""
    sort: DeviceSort = DeviceSort.ID
    descending: bool = False
    limit: PageLimit = 100
    offset: Count = 0


class DeviceRow(Result, frozen=True):
    """One line of a device list. Times are the platform's; `last_seen_at` is receive time."""

    device_id: str
    name: str
    site: str
    status: DeviceHealth
    since: datetime
    score: int | None
    cpu_percent: float | None
    ram_percent: float | None
    disk_percent: float | None
    connectors_running: int
    connectors_total: int
    last_seen_at: datetime | None
    hostname: str
    addresses: list[str]
    uptime_s: int | None
    tags: dict[str, str]


class DevicePage(Result, frozen=True):
    """A page of devices and how many match in all."""

    devices: list[DeviceRow]
    total: int


class DeviceShow(Params, frozen=True):
    """One device, whole, with its last `events` events."""

    device_id: Line
    events: Annotated[int, Meta(ge=0, le=100)] = 10


class DeviceEvent(Result, frozen=True):
    """Something that happened to a device; `source` is `device` or `platform`."""

    at: datetime
    received_at: datetime
    source: str
    kind: str
    severity: Severity
    message: str
    data: dict[str, Any]


class DeviceDetail(Result, frozen=True):
    """Everything the registry knows about one device."""

    device: DeviceRow
    owner: str
    tenant: str
    lifecycle: str
    registered_at: datetime
    info: DeviceInfo
    metrics: Metrics | None
    connectors: list[Connector]
    interval_s: int | None
    boot_id: str | None
    session: int | None
    clock_skewed: bool
    events: list[DeviceEvent]


class DeviceEvents(Params, frozen=True):
    """A device's event log, newest first."""

    device_id: Line
    limit: PageLimit = 50
    offset: Count = 0
    kind: Line = ""


class DeviceEventPage(Result, frozen=True):
    """A page of a device's event log."""

    events: list[DeviceEvent]
    total: int


class FleetStatus(Params, frozen=True):
    """The fleet at a glance."""


class Usage(Result, frozen=True):
    """Mean and peak percent over the devices that are not offline or unseen."""

    mean_percent: float | None
    peak_percent: float | None


class ProcessRow(Result, frozen=True):
    """A process of the platform, as its own MQTT status says. `state`: online, late or offline."""

    service: str
    role: str
    instance: str
    state: str
    pid: int
    started_at: datetime
    last_seen_at: datetime
    version: str
    counters: dict[str, int]


class FleetSummary(Result, frozen=True):
    """Totals by status; `health_percent` is online devices in percent of all that were seen."""

    devices: int
    by_status: dict[str, int]
    health_percent: float | None
    cpu: Usage
    ram: Usage
    disk: Usage
    heartbeats_stored: int
    dead_letters: int
    first_heartbeat_at: datetime | None
    processes: list[ProcessRow]


class DeadLetterList(Params, frozen=True):
    """Dead letters, newest first."""

    reason: Line = ""
    topic: Line = ""
    limit: PageLimit = 50
    offset: Count = 0


class DeadLetterRow(Result, frozen=True):
    """A message that was refused."""

    id: int
    received_at: datetime
    topic: str
    reason: str
    detail: str
    size_bytes: int


class DeadLetterPage(Result, frozen=True):
    """A page of dead letters and how many match in all."""

    dead_letters: list[DeadLetterRow]
    total: int


class DeadLetterShow(Params, frozen=True):
    """One dead letter with its payload."""

    id: Count


class DeadLetterDetail(Result, frozen=True):
    """`payload_text` is the payload where it is UTF-8, otherwise empty; `payload_base64` always.
    `truncated` says that only the first part was kept."""

    dead_letter: DeadLetterRow
    payload_text: str
    payload_base64: str
    truncated: bool


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table below."""

    name: str
    params: type[Params]
    result: type[Result]
    mutates: bool = False


OPERATIONS: dict[str, Operation] = {
    operation.name: operation
    for operation in (
        Operation(
            name="device.register", params=DeviceRegister, result=DeviceRegistered, mutates=True
        ),
        Operation(name="device.list", params=DeviceList, result=DevicePage),
        Operation(name="device.show", params=DeviceShow, result=DeviceDetail),
        Operation(name="device.events", params=DeviceEvents, result=DeviceEventPage),
        Operation(name="fleet.status", params=FleetStatus, result=FleetSummary),
        Operation(name="dead-letters.list", params=DeadLetterList, result=DeadLetterPage),
        Operation(name="dead-letters.show", params=DeadLetterShow, result=DeadLetterDetail),
    )
}
