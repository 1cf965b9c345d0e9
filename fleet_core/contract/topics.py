"""The topic contract: the only module that contains a topic string.

    fleet/v1/<kind>/<id>/<up|down>/<channel>[/<key>]

- `up` is what a principal says, `down` is what is said to it.
- A *topic* is concrete, a *filter* may contain wildcards.
- Every concrete topic matches exactly one `Template`; `parse` and `Template.topic` are inverses.
- Limits, retain flags and quality of service belong to the template, not to the sender.

`topics.md` and `docs/asyncapi.json` are generated from this module (`make topics`). Rights live in
`rights.py`; this module knows nothing of who may do what.
"""

from __future__ import annotations

import re
from enum import StrEnum

import msgspec

from fleet_core.contract import messages
from fleet_core.contract.errors import InvalidTopic

ROOT = "fleet/v1"
PAYLOAD_LIMIT_BYTES = 96 * 1024
"""No payload is ever longer: brokers commonly refuse more than 128 KB."""
TOPIC_LIMIT_BYTES = 256
SHARE_PREFIX = "$share"


class Kind(StrEnum):
    """The second word of a topic: what sort of principal its `<id>` names."""

    DEVICES = "devices"
    OPERATORS = "operators"
    SERVICES = "services"
    ENROLMENTS = "enrolments"
    TENANTS = "tenants"
    ARTIFACTS = "artifacts"


class Direction(StrEnum):
    """`up`: said by the principal. `down`: said to it."""

    UP = "up"
    DOWN = "down"


_ID_PATTERNS = {
    Kind.DEVICES: re.compile(r"[a-z0-9][a-z0-9-]{1,62}"),
    Kind.OPERATORS: re.compile(r"operator\.[a-z0-9][a-z0-9-]{0,62}"),
    Kind.SERVICES: re.compile(r"service\.[a-z0-9][a-z0-9-]{0,62}"),
    Kind.ENROLMENTS: re.compile(r"[0-9a-f]{32}"),
    Kind.TENANTS: re.compile(r"[a-z0-9][a-z0-9-]{0,62}"),
    Kind.ARTIFACTS: re.compile(r"[a-z0-9][a-z0-9-]{1,62}"),
}
KEY_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def id_pattern(kind: Kind) -> str:
    """The regular expression that an `<id>` of `kind` matches from end to end."""
    return _ID_PATTERNS[kind].pattern


def is_valid_id(kind: Kind, identity: str) -> bool:
    """Whether `identity` may stand as the `<id>` of `kind`.

    >>> is_valid_id(Kind.DEVICES, "gw-0001"), is_valid_id(Kind.DEVICES, "service.ingest")
    (True, False)
    """
    return _ID_PATTERNS[kind].fullmatch(identity) is not None


def is_valid_key(key: str) -> bool:
    """Whether `key` may stand as the last level of a keyed channel."""
    return KEY_PATTERN.fullmatch(key) is not None


class Topic(msgspec.Struct, frozen=True, gc=False):
    """A concrete topic, taken apart. `key` is empty where the channel has none."""

    template: Template
    identity: str
    key: str = ""

    def __str__(self) -> str:
        return self.template.topic(self.identity, self.key)


class Template(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One row of the contract.

    `payload_type` is what a payload decodes to. `payload_limit_bytes` is checked before decoding.
    `receipted` says that a record here is answered on `DEVICE_RECEIPTS` once it is stored.
    """

    name: str
    kind: Kind
    direction: Direction
    channel: str
    payload_type: type[msgspec.Struct]
    summary: str
    key_name: str = ""
    retain: bool = False
    qos: int = 1
    payload_limit_bytes: int = PAYLOAD_LIMIT_BYTES
    receipted: bool = False

    def topic(self, identity: str, key: str = "") -> str:
        """The concrete topic of `identity`. Raises `InvalidTopic` for an id or key off the grammar.

        >>> DEVICE_HEARTBEAT.topic("gw-0001")
        'fleet/v1/devices/gw-0001/up/heartbeat'
        """
        if not is_valid_id(self.kind, identity):
            raise InvalidTopic(f"{identity[:80]!r} is no id of {self.kind.value}")
        if bool(key) != bool(self.key_name) or (key and not is_valid_key(key)):
            raise InvalidTopic(f"{key[:80]!r} is no key of {self.name}")
        return self._format(identity, key)

    def filter(self, identity: str = "+") -> str:
        """The subscription filter for this channel of `identity`, by default of everybody.

        >>> DEVICE_HEARTBEAT.filter()
        'fleet/v1/devices/+/up/heartbeat'
        """
        if identity != "+" and not is_valid_id(self.kind, identity):
            raise InvalidTopic(f"{identity[:80]!r} is no id of {self.kind.value}")
        return self._format(identity, "+" if self.key_name else "")

    def address(self) -> str:
        """The template with its parameters in braces, as documents print it."""
        return self._format(
            f"{{{self.kind.value[:-1]}_id}}", f"{{{self.key_name}}}" * bool(self.key_name)
        )

    def _format(self, identity: str, key: str) -> str:
        base = f"{ROOT}/{self.kind.value}/{identity}/{self.direction.value}/{self.channel}"
        return f"{base}/{key}" if key else base


DEVICE_STATUS = Template(
    name="device_status",
    kind=Kind.DEVICES,
    direction=Direction.UP,
    channel="status",
    payload_type=messages.DeviceStatus,
    retain=True,
    payload_limit_bytes=2 * 1024,
    summary="Birth, clean goodbye, and the will a broker speaks for a device that is lost.",
)
DEVICE_HEARTBEAT = Template(
    name="device_heartbeat",
    kind=Kind.DEVICES,
    direction=Direction.UP,
    channel="heartbeat",
    payload_type=messages.Heartbeat,
    payload_limit_bytes=32 * 1024,
    receipted=True,
    summary="Metrics and connectors, at the interval the device announces in it.",
)
DEVICE_EVENTS = Template(
    name="device_events",
    kind=Kind.DEVICES,
    direction=Direction.UP,
    channel="events",
    payload_type=messages.EventBatch,
    receipted=True,
    summary="What happened on the device, in batches, kept by it until receipted.",
)
DEVICE_RECEIPTS = Template(
    name="device_receipts",
    kind=Kind.DEVICES,
    direction=Direction.DOWN,
    channel="receipts",
    payload_type=messages.Receipt,
    qos=0,
    payload_limit_bytes=32 * 1024,
    summary="Which records are in the database. At QoS 0: a lost one is asked for again.",
)
OPERATOR_REQUESTS = Template(
    name="operator_requests",
    kind=Kind.OPERATORS,
    direction=Direction.UP,
    channel="requests",
    key_name="request_id",
    payload_type=messages.Request,
    summary="Every `fleet` command.",
)
OPERATOR_RESPONSES = Template(
    name="operator_responses",
    kind=Kind.OPERATORS,
    direction=Direction.DOWN,
    channel="responses",
    key_name="request_id",
    payload_type=messages.Chunk,
    summary="One chunk of the answer to a request.",
)
SERVICE_STATUS = Template(
    name="service_status",
    kind=Kind.SERVICES,
    direction=Direction.UP,
    channel="status",
    payload_type=messages.ServiceStatus,
    retain=True,
    payload_limit_bytes=8 * 1024,
    summary="Birth, heartbeat, goodbye and will of the platform's own processes.",
)
TENANT_DEVICES = Template(
    name="tenant_devices",
    kind=Kind.TENANTS,
    direction=Direction.DOWN,
    channel="devices",
    key_name="device_id",
    payload_type=messages.LiveDevice,
    retain=True,
    payload_limit_bytes=32 * 1024,
    summary="A device's present state, published when it changes, for operators who follow live.",
)

TEMPLATES: tuple[Template, ...] = (
    DEVICE_STATUS,
    DEVICE_HEARTBEAT,
    DEVICE_EVENTS,
    DEVICE_RECEIPTS,
    OPERATOR_REQUESTS,
    OPERATOR_RESPONSES,
    SERVICE_STATUS,
    TENANT_DEVICES,
)
_BY_CHANNEL = {(t.kind.value, t.direction.value, t.channel): t for t in TEMPLATES}


def parse(topic: str) -> Topic:
    """Take a concrete topic apart. Raises `InvalidTopic`; never returns an id off the grammar.

    >>> parse("fleet/v1/devices/gw-0001/up/heartbeat").identity
    'gw-0001'
    """
    levels = topic.split("/")
    if not 6 <= len(levels) <= 7 or levels[0] != "fleet" or levels[1] != "v1":
        raise InvalidTopic(f"{topic[:120]!r} is not of the form {ROOT}/<kind>/<id>/<up|down>/…")
    _, _, kind, identity, direction, channel = levels[:6]
    key = levels[6] if len(levels) == 7 else ""
    template = _BY_CHANNEL.get((kind, direction, channel))
    if template is None:
        raise InvalidTopic(f"{topic[:120]!r} names no channel of the contract")
    if not is_valid_id(template.kind, identity):
        raise InvalidTopic(f"{identity[:80]!r} is no id of {kind}")
    if (len(levels) == 7) != bool(template.key_name) or (
        template.key_name and not is_valid_key(key)
    ):
        raise InvalidTopic(f"{topic[:120]!r} has no valid key for {template.name}")
    return Topic(template, identity, key)


def shared(group: str, topic_filter: str) -> str:
    """The same filter as a shared subscription of `group` (Mosquitto and EMQX, also for 3.1.1)."""
    return f"{SHARE_PREFIX}/{group}/{topic_filter}"
