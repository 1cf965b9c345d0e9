"""What the machine measures of itself: processor, memory, disk, network, uptime (psutil).

Percent is 0 to 100 and is clamped to it; sizes are bytes. CPU % (`cpu.py`) and network rates are
averages since the sample before; the first sample has no rates. A disk that can't be asked keeps
the last answer, so that a heartbeat goes out all the same.
"""

from __future__ import annotations

import logging

import msgspec
import psutil

from device_agent.cpu import CpuWindow
from device_agent.logs import fields
from device_agent.moment import Moment
from fleet_core.contract.errors import ConfigError
from fleet_core.contract.messages import Metrics

logger = logging.getLogger(__name__)

RATE_INTERVAL_MIN_S = 0.1


class _Disk(msgspec.Struct, frozen=True):
    used: int
    total: int
    percent: float


class MetricsProbe:
    """Samples this machine. Raises `ConfigError` when `disk_path` can't be asked at the start."""

    def __init__(self, disk_path: str, now: Moment) -> None:
        self._disk_path = disk_path
        try:
            self._disk = _ask_disk(disk_path)
        except OSError as error:
            raise ConfigError(f"disk_path {disk_path!r} can't be measured: {error}") from error
        self._disk_failing = False
        self._traffic: tuple[float, int, int] | None = None
        self._cpu = CpuWindow(now.elapsed_s)

    def sample(self, now: Moment) -> Metrics:
        """The state of the machine now."""
        memory, disk = psutil.virtual_memory(), self._disk_usage()
        received, sent = self._rates(now.elapsed_s)
        return Metrics(
            cpu_percent=_percent(self._cpu.percent(now.elapsed_s)),
            ram_percent=_percent(memory.percent),
            disk_percent=_percent(disk.percent),
            cpu_count=psutil.cpu_count(),
            ram_used_bytes=memory.total - memory.available,
            ram_total_bytes=memory.total,
            disk_used_bytes=disk.used,
            disk_total_bytes=disk.total,
            network_received_bytes_per_s=received,
            network_sent_bytes_per_s=sent,
            uptime_s=max(0, int(now.at.timestamp() - psutil.boot_time())),
        )

    def _disk_usage(self) -> _Disk:
        try:
            self._disk = _ask_disk(self._disk_path)
        except OSError as error:
            if not self._disk_failing:
                logger.warning("metrics.disk", extra=fields(path=self._disk_path, error=error))
            self._disk_failing = True
        else:
            self._disk_failing = False
        return self._disk

    def _rates(self, now_s: float) -> tuple[float | None, float | None]:
        """Bytes per second received and sent over every interface but the loopback."""
        counters = [
            counter
            for name, counter in psutil.net_io_counters(pernic=True).items()
            if not name.startswith("lo")
        ]
        received = sum(counter.bytes_recv for counter in counters)
        sent = sum(counter.bytes_sent for counter in counters)
        before, self._traffic = self._traffic, (now_s, received, sent)
        if before is None or now_s - before[0] < RATE_INTERVAL_MIN_S:
            return None, None
        elapsed_s = now_s - before[0]
        return _rate(received - before[1], elapsed_s), _rate(sent - before[2], elapsed_s)


def _ask_disk(path: str) -> _Disk:
    usage = psutil.disk_usage(path)
    return _Disk(usage.used, usage.total, usage.percent)


def _percent(value: float) -> float:
    return min(100.0, max(0.0, round(value, 1)))


def _rate(count: int, elapsed_s: float) -> float | None:
    """None when a counter went backwards, as it does when an interface disappears."""
    return round(count / elapsed_s, 1) if count >= 0 else None
