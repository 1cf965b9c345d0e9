from __future__ import annotations

import logging
from pathlib import Path

import pytest

from device_agent.connectors import (
    FILE_LIMIT_BYTES,
    ConnectorWatch,
    ProviderFailed,
    StaticFile,
)
from fleet_core.contract.codec import decode_as, encode
from fleet_core.contract.messages import MAX_CONNECTORS, Connector, ConnectorStatus

RUNNING = Connector(name="modbus", type="driver", status=ConnectorStatus.RUNNING)


class Told:
    """A provider that answers what it is told."""

    def __init__(self, *connectors: Connector) -> None:
        self.answer: list[Connector] | None = list(connectors)

    async def read(self) -> list[Connector]:
        if self.answer is None:
            raise ProviderFailed("gone")
        return self.answer


async def test_a_json_file_lists_connectors(tmp_path: Path) -> None:
    path = tmp_path / "connectors.json"
    path.write_text('[{"name": "modbus", "type": "driver", "status": "running"}]')
    assert await StaticFile(path).read() == [RUNNING]


async def test_a_toml_file_lists_connectors(tmp_path: Path) -> None:
    path = tmp_path / "connectors.toml"
    path.write_text('[[connectors]]\nname = "modbus"\ntype = "driver"\nstatus = "running"\n')
    assert await StaticFile(path).read() == [RUNNING]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.json", b"[" * 100_000),
        ("c.json", b'[{"name": "x", "status": "dancing"}]'),
        ("c.json", b" " * (FILE_LIMIT_BYTES + 1)),
        ("c.toml", b"\xff"),
        ("c.toml", b"connector = []"),
        ("c.toml", b"connectors = 3"),
    ],
)
async def test_a_bad_file_is_a_failed_provider(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ProviderFailed):
        await StaticFile(path).read()


async def test_a_missing_file_is_a_failed_provider(tmp_path: Path) -> None:
    with pytest.raises(ProviderFailed):
        await StaticFile(tmp_path / "nothing.json").read()


async def test_while_a_provider_fails_its_connectors_are_unknown_and_one_line_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    told = Told(RUNNING)
    watch = ConnectorWatch([told])
    assert await watch.read() == [RUNNING]
    told.answer = None
    for _ in range(3):
        (connector,) = await watch.read()
        assert (connector.name, connector.status) == ("modbus", ConnectorStatus.UNKNOWN)
    told.answer = [RUNNING]
    assert await watch.read() == [RUNNING]
    assert [r.message for r in caplog.records] == ["connectors.failing", "connectors.recovered"]


async def test_one_failing_provider_does_not_hide_another() -> None:
    failing = Told()
    failing.answer = None
    assert await ConnectorWatch([failing, Told(RUNNING)]).read() == [RUNNING]


async def test_whatever_a_provider_says_fits_the_contract() -> None:
    wild = [
        Connector(name="a\0b\n" + "ü" * 300, type="t" * 999),
        Connector(name=""),
        *(Connector(name=f"c{n}") for n in range(MAX_CONNECTORS + 10)),
        Connector(name="c1", type="again"),
    ]
    connectors = await ConnectorWatch([Told(*wild)]).read()
    assert len(connectors) == MAX_CONNECTORS
    for connector in connectors:
        assert decode_as(Connector, encode(connector)) == connector
    assert [c.type for c in connectors if c.name == "c1"] == [""]
