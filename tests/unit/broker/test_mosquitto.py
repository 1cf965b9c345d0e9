"""The configuration of Mosquitto, as text."""

from __future__ import annotations

from itertools import pairwise

import pytest

from broker.mosquitto import PACKET_LIMIT_BYTES, MosquittoSettings, render
from fleet_core.contract.errors import ConfigError
from fleet_core.contract.topics import PAYLOAD_LIMIT_BYTES

SETTINGS = MosquittoSettings(directory="/var/lib/mosquitto", port=18830, user="fleet")


def values(text: str) -> dict[str, str]:
    """Option to value, comments left out."""
    lines = (line.split(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    return {words[0]: words[1] for words in lines if words[0] != "log_type"}


def test_what_must_differ_from_the_defaults() -> None:
    found = values(render(SETTINGS))
    assert found["per_listener_settings"] == "true"
    assert found["listener"] == "18830 127.0.0.1"
    assert found["persistence"] == "true"
    assert found["persistence_location"] == "/var/lib/mosquitto/"
    assert found["user"] == "fleet"
    assert int(found["max_inflight_messages"]) >= 2000
    assert int(found["max_queued_messages"]) > 1000
    assert int(found["autosave_interval"]) <= 60
    assert int(found["max_packet_size"]) == PACKET_LIMIT_BYTES > PAYLOAD_LIMIT_BYTES


def test_per_listener_settings_come_before_and_the_rights_of_a_listener_after_it() -> None:
    order = list(values(render(SETTINGS)))
    assert order.index("per_listener_settings") == 0
    assert order.index("listener") < order.index("allow_anonymous")


def test_every_option_has_a_comment_above_it() -> None:
    lines = render(SETTINGS).splitlines()
    grouped = {"persistence_location", "persistence_file", "log_type", "log_timestamp_format"}
    grouped |= {"max_queued_bytes", "protocol", "max_connections"}
    for above, line in pairwise(lines):
        option = line.split(" ")[0]
        if line and not line.startswith("#") and option not in grouped:
            assert above.startswith("#"), option


@pytest.mark.parametrize("directory", ["", "relative", "/a\nlistener 1884", "/a\0", "/a "])
def test_a_directory_that_would_break_out_is_refused(directory: str) -> None:
    with pytest.raises(ConfigError):
        render(MosquittoSettings(directory=directory))


@pytest.mark.parametrize("user", ["root\nallow_anonymous true", " fleet"])
def test_a_user_that_would_break_out_is_refused(user: str) -> None:
    with pytest.raises(ConfigError):
        render(MosquittoSettings(directory="/var/lib/mosquitto", user=user))
