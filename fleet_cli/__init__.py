"""The operator's `fleet` command: a pure MQTT client that never touches the registry."""
