"""The brokers: the embedded one as a process, and the configuration of Mosquitto.

- `embedded` runs amqtt with the repairs that normal operation needs; `python -m broker` starts it.
- `mosquitto` renders a configuration file; it starts nothing and writes nothing.
- Both listen on loopback only (`fleet_core.rules.loopback`) and let everybody in: identities arrive
  with mTLS, and with them the rights of `fleet_core.contract.rights`.

Limits come from the contract. Nothing here knows what a message means.
"""
