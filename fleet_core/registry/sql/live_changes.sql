-- name: insert
INSERT INTO live_changes (device_id) SELECT unnest(%(device_ids)s::text[])

-- name: insert_all
-- What waits already is not put there again: a broker that comes and goes must not fill the queue.
INSERT INTO live_changes (device_id, background)
SELECT d.device_id, true FROM devices d
WHERE NOT EXISTS (SELECT FROM live_changes c WHERE c.device_id = d.device_id)
ORDER BY d.device_id

-- name: lock
SELECT pg_try_advisory_xact_lock(%(lock_id)s) AS held

-- name: claim
SELECT id, device_id FROM live_changes ORDER BY background, id LIMIT %(limit)s

-- name: delete
DELETE FROM live_changes WHERE id = ANY(%(ids)s::bigint[])
