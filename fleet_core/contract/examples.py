"""One realistic message for each template, and the ids that stand in example topics.

They are printed in `topics.md` and `docs/asyncapi.json`, checked against the schemas, and the
shortest way to see what a message looks like. Times are fixed, so that documents stay the same.
"""

from __future__ import annotations

from datetime import UTC, datetime

from fleet_core.contract import messages, topics
from fleet_core.contract.topics import Kind, Template

AT = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
BOOT_ID = "6f1ed002ab5595859014ebf0951522d9"
DEVICE_ID = "gw-0001"
REQUEST_ID = "r-20260302-093000-4b7f"

IDENTITIES = {
    Kind.DEVICES: DEVICE_ID,
    Kind.OPERATORS: "operator.alice",
    Kind.SERVICES: "service.ingest",
    Kind.ENROLMENTS: "0f9a3c5e7b1d4826a0c2e4f6081b3d57",
    Kind.TENANTS: "acme",
    Kind.ARTIFACTS: "gateway-firmware",
}
KEYS = {"request_id": REQUEST_ID, "device_id": DEVICE_ID}

MESSAGES: dict[str, messages.Message] = {
    topics.DEVICE_STATUS.name: messages.DeviceStatus(
        state=messages.Presence.ONLINE,
        reason=messages.Farewell.BIRTH,
        boot_id=BOOT_ID,
        session=3,
        at=AT,
    ),
    topics.DEVICE_HEARTBEAT.name: messages.Heartbeat(
        boot_id=BOOT_ID,
        seq=1042,
        at=AT,
        interval_s=30,
        metrics=messages.Metrics(
            cpu_percent=12.5,
            ram_percent=41.2,
            disk_percent=63.0,
            cpu_count=4,
            ram_used_bytes=1_769_472_000,
            ram_total_bytes=4_294_967_296,
            disk_used_bytes=20_293_120_000,
            disk_total_bytes=32_212_254_720,
            network_received_bytes_per_s=1820.5,
            network_sent_bytes_per_s=640.0,
            uptime_s=86_400,
            custom={"battery_percent": 88.0},
        ),
        connectors=[
            messages.Connector(
                name="modbus-line-1", type="modbus", status=messages.ConnectorStatus.RUNNING
            ),
            messages.Connector(
                name="opcua-press", type="opcua", status=messages.ConnectorStatus.FAILED
            ),
        ],
        info=messages.DeviceInfo(
            hostname="gw-0001",
            os="Debian GNU/Linux 12",
            kernel="6.1.0",
            architecture="aarch64",
            addresses=["192.0.2.17"],
            agent_version="0.1.0",
            stack_version="2026.3",
        ),
        receipt=True,
    ),
    topics.DEVICE_EVENTS.name: messages.EventBatch(
        boot_id=BOOT_ID,
        events=[
            messages.Event(seq=1, at=AT, kind="agent.started", message="agent 0.1.0 started"),
            messages.Event(
                seq=2,
                at=AT,
                kind="connector.failed",
                severity=messages.Severity.ERROR,
                message="opcua-press: connection refused",
                data={"connector": "opcua-press", "attempt": 3},
            ),
        ],
    ),
    topics.DEVICE_RECEIPTS.name: messages.Receipt(boot_id=BOOT_ID, ranges=[(1, 2), (1042, 1042)]),
    topics.OPERATOR_REQUESTS.name: messages.Request(
        request_id=REQUEST_ID,
        operation="device.list",
        expires_at=datetime(2026, 3, 2, 9, 31, tzinfo=UTC),
        params={"site": "berlin", "limit": 100},
    ),
    topics.OPERATOR_RESPONSES.name: messages.Chunk(
        request_id=REQUEST_ID,
        chunk=1,
        total_chunks=1,
        payload='{"result":{"total":0,"devices":[]}}',
    ),
    topics.SERVICE_STATUS.name: messages.ServiceStatus(
        state=messages.Presence.ONLINE,
        reason="heartbeat",
        role="ingest",
        instance="ingest-1",
        pid=4711,
        started_at=datetime(2026, 3, 2, 8, 0, tzinfo=UTC),
        at=AT,
        interval_s=10,
        version="0.1.0",
        counters={"stored": 182_340, "rejected": 2},
    ),
    topics.TENANT_DEVICES.name: messages.LiveDevice(
        device_id=DEVICE_ID,
        name="Gateway line 1",
        site="berlin",
        status=messages.DeviceHealth.WARNING,
        since=AT,
        score=70,
        last_heartbeat_at=AT,
        cpu_percent=12.5,
        ram_percent=41.2,
        disk_percent=63.0,
        connectors_running=1,
        connectors_total=2,
        tags={"env": "production"},
    ),
}


def example_topic(template: Template) -> str:
    """A concrete topic of `template`.

    >>> example_topic(topics.TENANT_DEVICES)
    'fleet/v1/tenants/acme/down/devices/gw-0001'
    """
    return template.topic(IDENTITIES[template.kind], KEYS.get(template.key_name, ""))
