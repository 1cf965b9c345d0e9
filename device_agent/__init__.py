"""The agent: a pure MQTT client that runs on a device. It knows the contract and nothing more."""
