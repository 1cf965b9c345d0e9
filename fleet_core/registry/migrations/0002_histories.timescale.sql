-- With TimescaleDB a history is a hypertable, partitioned by the device's own time.
SELECT create_hypertable('heartbeats', by_range('at', INTERVAL '1 day'), create_default_indexes => false);
SELECT create_hypertable('device_events', by_range('at', INTERVAL '7 days'), create_default_indexes => false);
