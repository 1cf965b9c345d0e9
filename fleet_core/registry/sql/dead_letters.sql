-- name: insert
INSERT INTO dead_letters (received_at, topic, reason, detail, payload, size_bytes)
SELECT * FROM unnest(
    %(received_ats)s::timestamptz[], %(topics)s::text[], %(reasons)s::text[], %(details)s::text[],
    %(payloads)s::bytea[], %(sizes)s::integer[]
)

-- name: page
SELECT id, received_at, topic, reason, detail, size_bytes
FROM dead_letters
WHERE (%(reason)s::text = '' OR reason = %(reason)s::text)
    AND (%(topic)s::text = '' OR position(%(topic)s::text IN topic) > 0)
ORDER BY id DESC
LIMIT %(limit)s OFFSET %(offset)s

-- name: count
SELECT count(*) AS total
FROM dead_letters
WHERE (%(reason)s::text = '' OR reason = %(reason)s::text)
    AND (%(topic)s::text = '' OR position(%(topic)s::text IN topic) > 0)

-- name: get
SELECT id, received_at, topic, reason, detail, size_bytes, payload
FROM dead_letters
WHERE id = %(id)s
