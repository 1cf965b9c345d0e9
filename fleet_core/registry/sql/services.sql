-- name: save
INSERT INTO services (
    service_id, role, instance, state, reason, pid, version, interval_s, started_at, at,
    received_at, counters
)
VALUES (
    %(service_id)s, %(role)s, %(instance)s, %(state)s, %(reason)s, %(pid)s, %(version)s,
    %(interval_s)s, %(started_at)s, %(at)s, %(received_at)s, %(counters)s::jsonb
)
ON CONFLICT (service_id) DO UPDATE
SET role = excluded.role, instance = excluded.instance, state = excluded.state,
    reason = excluded.reason, pid = excluded.pid, version = excluded.version,
    interval_s = excluded.interval_s, started_at = excluded.started_at, at = excluded.at,
    received_at = excluded.received_at, counters = excluded.counters

-- name: all
SELECT service_id, role, instance, state, pid, started_at, received_at, interval_s, version, counters
FROM services
ORDER BY service_id

-- name: listening
INSERT INTO listeners (instance, listening_since, seen_at)
VALUES (%(instance)s, %(listening_since)s, %(now)s)
ON CONFLICT (instance) DO UPDATE
SET listening_since = excluded.listening_since, seen_at = excluded.seen_at

-- name: listening_since
-- The latest: with shared subscriptions each process hears a part, and a gap of one is a gap.
SELECT max(listening_since) AS since FROM listeners
WHERE seen_at > %(now)s - make_interval(secs => %(fresh_s)s)
