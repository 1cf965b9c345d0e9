"""What counts as this machine talking to itself."""

from __future__ import annotations

import pytest

from fleet_core.contract.errors import ConfigError
from fleet_core.rules.loopback import is_loopback, require_loopback


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.255.0.9", "::1"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)
    require_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "*",
        "0.0.0.0",  # noqa: S104
        "::",
        "128.0.0.1",
        "127.0.0.1.example.org",
        "localhost.example.org",
        "localhost\n",
        "127.1",
        "127.0.0.1:1883",
        "[::1]",
        "::1%eth0",
        "::1%\nlistener 1884",
        " 127.0.0.1",
        "2130706433",
    ],
)
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(ConfigError, match="not loopback"):
        require_loopback(host)
