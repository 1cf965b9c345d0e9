"""A fast MQTT 3.1.1 publisher of heartbeats, so that the load costs the two cores little.

A process of its own over a plain socket: CONNECT, then PUBLISH at QoS 1 built by hand from
contract messages, counting PUBACKs. It keeps `sent` below `allowed`, a shared counter that the
bench raises as the platform commits: a closed loop with bounded outstanding.
"""

from __future__ import annotations

import multiprocessing as mp
import select
import socket
import struct
import uuid
from datetime import UTC, datetime
from typing import Any, Self

from fleet_core.contract import codec
from fleet_core.contract.messages import Connector, ConnectorStatus, Heartbeat, Metrics
from fleet_core.contract.topics import DEVICE_HEARTBEAT
from fleet_core.runtime import packets

PACKETS_AT_A_TIME = 200


def publish(
    port: int, devices: list[str], first: int, allowed: Any, sent: Any, stop: Any, *, receipt: bool
) -> None:
    """Publish heartbeats of `devices` in turn until `stop` is set. Runs in a process of its own."""
    with socket.create_connection(("127.0.0.1", port)) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line.sendall(_connect_packet(f"bench-{first}"))
        if line.recv(4)[:2] != b"\x20\x02":
            raise RuntimeError("the broker refused the publisher")
        line.setblocking(False)
        heartbeats = _packets(devices, receipt=receipt)
        pending, sent_here = b"", 0
        while not stop.value:
            if not pending and sent.value < allowed.value:
                pending = b"".join(next(heartbeats) for _ in range(PACKETS_AT_A_TIME))
                sent_here += PACKETS_AT_A_TIME
                sent.value += PACKETS_AT_A_TIME
            readable, writable, _ = select.select([line], [line] if pending else [], [], 0.002)
            if readable and not line.recv(1 << 20):
                raise RuntimeError("the broker closed the publisher's connection")
            if writable:
                pending = pending[line.send(pending) :]


def _packets(devices: list[str], *, receipt: bool) -> Any:
    """Heartbeats without end, one device after the other, `seq` rising with each round."""
    boot_id, seq, mid = uuid.uuid4().hex, 0, 0
    topics = [DEVICE_HEARTBEAT.topic(device_id).encode() for device_id in devices]
    connectors = [
        Connector(name=name, type="container", status=ConnectorStatus.RUNNING)
        for name in ("opcua", "modbus", "mqtt-bridge")
    ]
    while True:
        seq += 1
        for index, topic in enumerate(topics):
            mid = mid % 65_535 + 1
            metrics = Metrics(
                cpu_percent=float((index * 7 + seq) % 90),
                ram_percent=40.5,
                disk_percent=55.25,
                ram_total_bytes=8 << 30,
                ram_used_bytes=3 << 30,
                network_received_bytes_per_s=1234.5,
                network_sent_bytes_per_s=432.1,
                uptime_s=seq * 30,
            )
            payload = codec.encode(
                Heartbeat(
                    boot_id=boot_id,
                    seq=seq,
                    at=datetime.now(UTC),
                    interval_s=30,
                    metrics=metrics,
                    connectors=connectors,
                    receipt=receipt,
                )
            )
            yield packets.publish(topic, payload, mid=mid)


def _connect_packet(client_id: str) -> bytes:
    body = b"\x00\x04MQTT\x04\x02" + struct.pack("!H", 120)
    body += struct.pack("!H", len(client_id)) + client_id.encode()
    return b"\x10" + packets.length(len(body)) + body


class Publisher:
    """The publisher process and its shared counters."""

    def __init__(self, port: int, devices: list[str], *, receipt: bool = False) -> None:
        context = mp.get_context("spawn")
        self.allowed = context.Value("q", 0, lock=False)
        self.sent = context.Value("q", 0, lock=False)
        self._stop = context.Value("b", 0, lock=False)
        self._process = context.Process(
            target=publish,
            args=(port, devices, 1, self.allowed, self.sent, self._stop),
            kwargs={"receipt": receipt},
            daemon=True,
        )

    def __enter__(self) -> Self:
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.value = 1
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    @property
    def pid(self) -> int:
        """The publisher's process id."""
        return self._process.pid or 0
