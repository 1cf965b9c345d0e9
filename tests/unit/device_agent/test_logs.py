from __future__ import annotations

import logging

from device_agent.logs import KeyValueFormatter, fields


def test_a_line_stays_a_line_whatever_is_in_it() -> None:
    record = logging.LogRecord("agent", logging.INFO, "", 0, "agent.refused", (), None)
    record.__dict__.update(fields(topic="a\r\nb", count=3, url="mqtt://[::1]:1", empty=""))
    line = KeyValueFormatter("%(message)s").format(record)
    assert line == 'agent.refused topic="a\\r\\nb" count=3 url="mqtt://[::1]:1" empty=""'
