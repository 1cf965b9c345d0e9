-- name: insert
INSERT INTO live_changes (device_id) SELECT unnest(%(device_ids)s::text[])

-- name: insert_all
INSERT INTO live_changes (device_id) SELECT device_id FROM devices ORDER BY device_id

-- name: lock
SELECT pg_try_advisory_xact_lock(%(lock_id)s) AS held

-- name: claim
SELECT id, device_id FROM live_changes ORDER BY id LIMIT %(limit)s

-- name: delete
DELETE FROM live_changes WHERE id = ANY(%(ids)s::bigint[])
