from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from device_agent.information import device_info, line
from device_agent.metrics import MetricsProbe
from fleet_core.contract.codec import decode_as, encode
from fleet_core.contract.errors import ConfigError
from fleet_core.contract.messages import DeviceInfo, Metrics
from tests.unit.device_agent.story import moment


def test_a_sample_of_this_machine_fits_the_contract() -> None:
    probe = MetricsProbe("/", moment(-10))
    first, second = probe.sample(moment(0)), probe.sample(moment(10))
    for sample in (first, second):
        assert decode_as(Metrics, encode(sample)) == sample
    assert first.network_sent_bytes_per_s is None
    assert second.network_sent_bytes_per_s is not None
    assert second.ram_total_bytes is not None
    assert second.ram_used_bytes is not None
    assert second.ram_used_bytes <= second.ram_total_bytes


def test_a_disk_that_can_not_be_measured_is_refused_at_the_start() -> None:
    with pytest.raises(ConfigError, match="disk_path"):
        MetricsProbe("/no/such/place", moment(0))


def test_a_disk_that_disappears_keeps_its_last_answer(tmp_path: Path) -> None:
    mounted = tmp_path / "disk"
    mounted.mkdir()
    probe = MetricsProbe(str(mounted), moment(-10))
    before = probe.sample(moment(0))
    mounted.rmdir()
    after = probe.sample(moment(10))
    assert after.disk_total_bytes == before.disk_total_bytes


def test_the_description_of_this_machine_fits_the_contract() -> None:
    info = device_info("2.4.0\n" + "x" * 400)
    assert decode_as(DeviceInfo, encode(info)) == info
    assert info.kernel
    assert info.architecture
    assert info.stack_version.startswith("2.4.0 x")
    assert not any(address.startswith(("127.", "fe80", "::1")) for address in info.addresses)
    assert msgspec.structs.replace(info) == device_info("2.4.0\n" + "x" * 400)


def test_a_line_holds_no_control_characters() -> None:
    assert line("a\0b\r\nc") == "a b  c"
    assert len(line("x" * 999)) == 256
