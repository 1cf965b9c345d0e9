"""The messages: what a payload means once it is decoded.

- UTF-8 JSON on the wire, MQTT 3.1.1. Ids, expiry and sequence numbers are in the payload.
- Unknown fields are ignored, so that an old platform understands a newer device.
- Every text, list, number and time that comes from outside has a bound here; what passes `decode`
  can be stored.
- `at` is the sender's own time. Receive time belongs to the platform and is not in a message.
- Percent is 0 to 100, sizes are bytes, durations are seconds.

The identity of the sender is never in a payload: it is the `<id>` of the topic.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta

MAX_CONNECTORS = 256
MAX_EVENTS_PER_BATCH = 500
MAX_CUSTOM_METRICS = 64
MAX_BIGINT = 2**63 - 1
EARLIEST_YEAR = 1970
LATEST_YEAR = 2200
UTC_OFFSET_LIMIT = timedelta(hours=16)
"""PostgreSQL refuses a time that is so far from UTC; the furthest in use is 14 hours."""
HEARTBEAT_INTERVAL_MIN_S = 1
HEARTBEAT_INTERVAL_MAX_S = 300

Timestamp = Annotated[datetime, Meta(tz=True)]
BootId = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
Sequence = Annotated[int, Meta(ge=1, le=MAX_BIGINT)]
Count = Annotated[int, Meta(ge=0, le=MAX_BIGINT)]
Percent = Annotated[float, Meta(ge=0, le=100)]
Rate = Annotated[float, Meta(ge=0, le=1e15)]
Number = Annotated[float, Meta(ge=-1e300, le=1e300)]
Word = Annotated[str, Meta(min_length=1, max_length=64)]
Line = Annotated[str, Meta(max_length=256)]
Text = Annotated[str, Meta(max_length=4096)]
RequestId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of everything on the wire: immutable, keyword-only, defaults left out."""


def require_sane_time(name: str, at: datetime) -> None:
    """Refuse years that calendars of a database or a time zone can't carry. What is merely
    implausible is judged later, by `rules/plausible.py`."""
    if not EARLIEST_YEAR <= at.year <= LATEST_YEAR:
        raise ValueError(f"{name} is not between {EARLIEST_YEAR} and {LATEST_YEAR}")
    if abs(at.utcoffset() or timedelta()) >= UTC_OFFSET_LIMIT:
        raise ValueError(f"{name} is 16 hours or more from UTC")


class Timed(Message, frozen=True):
    """A message that carries its sender's time."""

    at: Timestamp

    def __post_init__(self) -> None:
        require_sane_time("at", self.at)


class Presence(StrEnum):
    """What a status message says of its sender."""

    ONLINE = "online"
    OFFLINE = "offline"


class Farewell(StrEnum):
    """Why a status message was sent."""

    BIRTH = "birth"
    GOODBYE = "goodbye"
    WILL = "will"


class DeviceStatus(Timed, frozen=True):
    """Retained. `session` counts the connections of one boot, so that a late will of session 3
    can't kill session 4; `boot_id` is new in every process start of the agent."""

    state: Presence
    reason: Farewell
    boot_id: BootId
    session: Sequence

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.state is Presence.ONLINE) != (self.reason is Farewell.BIRTH):
            raise ValueError(f"state {self.state.value} contradicts reason {self.reason.value}")


class Metrics(Message, frozen=True, gc=False):
    """One sample of a device. `custom` is whatever else the device measures (battery, signal)."""

    cpu_percent: Percent
    ram_percent: Percent
    disk_percent: Percent
    cpu_count: Count | None = None
    ram_used_bytes: Count | None = None
    ram_total_bytes: Count | None = None
    disk_used_bytes: Count | None = None
    disk_total_bytes: Count | None = None
    network_received_bytes_per_s: Rate | None = None
    network_sent_bytes_per_s: Rate | None = None
    uptime_s: Count | None = None
    custom: Annotated[dict[Word, Number], Meta(max_length=MAX_CUSTOM_METRICS)] = {}


class ConnectorStatus(StrEnum):
    """Only `running` counts as healthy."""

    RUNNING = "running"
    STARTING = "starting"
    STOPPED = "stopped"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Connector(Message, frozen=True, gc=False):
    """A program the device runs for its purpose: a container, a driver, a protocol bridge."""

    name: Annotated[str, Meta(min_length=1, max_length=128)]
    type: Line = ""
    status: ConnectorStatus = ConnectorStatus.UNKNOWN


class DeviceInfo(Message, frozen=True):
    """What changes rarely: sent with the first heartbeat of a boot and whenever it changed."""

    hostname: Line = ""
    os: Line = ""
    kernel: Line = ""
    architecture: Line = ""
    addresses: Annotated[list[Line], Meta(max_length=32)] = []
    agent_version: Line = ""
    stack_version: Line = ""


class Heartbeat(Timed, frozen=True):
    """One sign of life. `(boot_id, seq)` names it for ever; `seq` is shared by all records of a
    boot. `receipt` asks for an answer on the receipts topic once it is stored."""

    boot_id: BootId
    seq: Sequence
    interval_s: Annotated[int, Meta(ge=HEARTBEAT_INTERVAL_MIN_S, le=HEARTBEAT_INTERVAL_MAX_S)]
    metrics: Metrics
    connectors: Annotated[list[Connector], Meta(max_length=MAX_CONNECTORS)] = []
    info: DeviceInfo | None = None
    receipt: bool = False


class Severity(StrEnum):
    """How much an event matters to an operator."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


class Event(Timed, frozen=True):
    """Something that happened on the device. `kind` is a dotted word such as `agent.started`."""

    seq: Sequence
    kind: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]*(\.[a-z0-9_]+)*\Z", max_length=64)]
    severity: Severity = Severity.INFO
    message: Text = ""
    data: dict[str, Any] = {}


class EventBatch(Message, frozen=True):
    """Events of one boot, oldest first."""

    boot_id: BootId
    events: Annotated[list[Event], Meta(min_length=1, max_length=MAX_EVENTS_PER_BATCH)]


class Receipt(Message, frozen=True):
    """Records of one boot that are committed. `ranges` holds inclusive `[first, last]` pairs of
    `seq`: exact, not cumulative, so that a gap never has to be explained (docs/adr/0003)."""

    boot_id: BootId
    ranges: Annotated[list[tuple[Sequence, Sequence]], Meta(min_length=1, max_length=1000)]


class Request(Message, frozen=True):
    """What an operator asks. `operation` is `noun.verb`. Not carried out after `expires_at`."""

    request_id: RequestId
    operation: Annotated[str, Meta(pattern=r"^[a-z-]+\.[a-z-]+\Z", max_length=64)]
    expires_at: Timestamp
    params: dict[str, Any] = {}

    def __post_init__(self) -> None:
        require_sane_time("expires_at", self.expires_at)


class Chunk(Message, frozen=True):
    """Part `chunk` (from 1) of `total_chunks` of a long answer; `payload` is text."""

    request_id: RequestId
    chunk: Annotated[int, Meta(ge=1, le=100_000)]
    total_chunks: Annotated[int, Meta(ge=1, le=100_000)]
    payload: str
    device_ts: Timestamp | None = None


class ErrorBody(Message, frozen=True):
    """The one error envelope. `code` is a stable word; `hint` says what to do about it."""

    code: str
    message: str
    hint: str = ""
    details: dict[str, Any] = {}


class Response(Message, frozen=True):
    """The whole answer to a request, once its chunks are joined: a result or an error."""

    result: Any = None
    error: ErrorBody | None = None


class ServiceStatus(Timed, frozen=True):
    """Retained. What one process of the platform says of itself."""

    state: Presence
    reason: Word
    role: Word
    instance: Word
    pid: Count
    started_at: Timestamp
    interval_s: Annotated[int, Meta(ge=1, le=86_400)]
    version: Line = ""
    counters: Annotated[dict[Word, Count], Meta(max_length=64)] = {}

    def __post_init__(self) -> None:
        super().__post_init__()
        require_sane_time("started_at", self.started_at)


class DeviceHealth(StrEnum):
    """The status of a device, as everybody sees it (design §5)."""

    UNSEEN = "unseen"
    ONLINE = "online"
    WARNING = "warning"
    OFFLINE = "offline"
    UPDATING = "updating"


class LiveDevice(Message, frozen=True):
    """Retained on the tenant's topic: enough for a live table without asking the registry."""

    device_id: str
    name: str
    site: str
    status: DeviceHealth
    since: Timestamp
    score: int | None = None
    last_heartbeat_at: Timestamp | None = None
    cpu_percent: float | None = None
    ram_percent: float | None = None
    disk_percent: float | None = None
    connectors_running: int = 0
    connectors_total: int = 0
    tags: dict[str, str] = {}
