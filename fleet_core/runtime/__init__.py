"""How a process lives: configuration, logs, the MQTT port, dispatch, the outbox, supervision."""
