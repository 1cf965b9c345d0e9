-- name: add
INSERT INTO counters (name, instance, value, first_at)
VALUES (%(name)s, %(instance)s, %(value)s, %(now)s)
ON CONFLICT (name, instance) DO UPDATE SET value = counters.value + excluded.value

-- name: totals
SELECT name, sum(value)::bigint AS value, min(first_at) AS first_at FROM counters GROUP BY name
