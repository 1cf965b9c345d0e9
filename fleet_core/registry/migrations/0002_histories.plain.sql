-- Without TimescaleDB a history stays a plain table. Retention scans by time: BRIN is almost free.
CREATE INDEX heartbeats_by_time ON heartbeats USING brin (at);
CREATE INDEX device_events_by_time ON device_events USING brin (at);
