"""What this project asks of a paho client before it connects (docs/adr/0008)."""

from __future__ import annotations

from typing import Any

import paho.mqtt.client as paho

from fleet_core.runtime.buffered_socket import BufferedSocket

INFLIGHT_WINDOW = 200
"""Publications at QoS 1 on the way at a time; paho's own default is 20."""


class _NoFilters:
    """Stands for paho's table of callbacks by topic, which nobody here fills but every message
    would be looked up in."""

    def iter_match(self, _topic: str) -> tuple[()]:
        """Nothing."""
        return ()


def tune(client: Any) -> None:
    """Acknowledge by hand; and what the profile asked for (docs/adr/0008)."""
    client.manual_ack_set(True)
    client.max_inflight_messages_set(INFLIGHT_WINDOW)
    client.disable_logger()
    client._on_message_filtered = _NoFilters()
    create_socket = client._create_socket
    client._create_socket = lambda: BufferedSocket(create_socket())
    loop_misc = client.loop_misc

    def look_and_loop_misc() -> Any:
        """aiomqtt calls this once a second. A reset shuts uvloop's poll handle without a word to
        the reader, so that nobody would notice it before a PUBACK is missed: look ourselves."""
        while client.loop_read() == paho.MQTT_ERR_SUCCESS:
            line = client.socket()
            if line is None or not line.pending():
                break
        return loop_misc()

    client.loop_misc = look_and_loop_misc
