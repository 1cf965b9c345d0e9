-- name: delete_heartbeats
DELETE FROM heartbeats WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM heartbeats WHERE at < %(before)s LIMIT %(limit)s
))

-- name: delete_device_events
DELETE FROM device_events WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM device_events WHERE at < %(before)s LIMIT %(limit)s
))

-- name: drop_chunks
SELECT count(*) AS dropped FROM drop_chunks(%(relation)s::regclass, older_than => %(before)s)

-- name: delete_dead_letters
DELETE FROM dead_letters WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM dead_letters WHERE received_at < %(before)s LIMIT %(limit)s
))

-- name: delete_operator_requests
DELETE FROM operator_requests WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM operator_requests WHERE received_at < %(before)s LIMIT %(limit)s
))

-- name: is_hypertable
SELECT EXISTS (SELECT FROM schema_migrations WHERE profile = 'timescale') AS is_hypertable
