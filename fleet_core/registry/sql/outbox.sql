-- name: insert
INSERT INTO outbox (topic, payload, qos, retain)
SELECT * FROM unnest(
    %(topics)s::text[], %(payloads)s::bytea[], %(qoss)s::smallint[], %(retains)s::boolean[]
)

-- name: lock
SELECT pg_try_advisory_xact_lock(%(lock_id)s) AS held

-- name: claim
SELECT id, topic, payload, qos, retain
FROM outbox
ORDER BY id
LIMIT %(limit)s

-- name: delete
DELETE FROM outbox WHERE id = ANY(%(ids)s::bigint[])
