-- name: lock
SELECT device_id, status, since, score, updating, boot_id, session, seq, interval_s, heartbeat_at,
    last_heartbeat_at, late_at, offline_at, will_recheck_at, ended_at, clock_skewed,
    connectors_running, connectors_total
FROM device_state
WHERE device_id = ANY(%(device_ids)s::text[])
ORDER BY device_id
FOR NO KEY UPDATE

-- name: save
UPDATE device_state AS s
SET status = new.status, since = new.since, score = new.score, boot_id = new.boot_id,
    session = new.session, seq = new.seq, interval_s = new.interval_s,
    heartbeat_at = new.heartbeat_at, last_heartbeat_at = new.last_heartbeat_at,
    late_at = new.late_at, offline_at = new.offline_at, will_recheck_at = new.will_recheck_at,
    ended_at = new.ended_at, clock_skewed = new.clock_skewed
FROM unnest(
    %(device_ids)s::text[], %(statuses)s::text[], %(sinces)s::timestamptz[], %(scores)s::smallint[],
    %(boot_ids)s::uuid[], %(sessions)s::bigint[], %(seqs)s::bigint[], %(intervals)s::integer[],
    %(heartbeat_ats)s::timestamptz[], %(last_heartbeat_ats)s::timestamptz[],
    %(late_ats)s::timestamptz[], %(offline_ats)s::timestamptz[],
    %(will_recheck_ats)s::timestamptz[], %(ended_ats)s::timestamptz[],
    %(clock_skeweds)s::boolean[]
) AS new (
    device_id, status, since, score, boot_id, session, seq, interval_s, heartbeat_at,
    last_heartbeat_at, late_at, offline_at, will_recheck_at, ended_at, clock_skewed
)
WHERE s.device_id = new.device_id

-- name: save_samples
UPDATE device_state AS s
SET status = new.status, since = new.since, score = new.score, boot_id = new.boot_id,
    session = new.session, seq = new.seq, interval_s = new.interval_s,
    heartbeat_at = new.heartbeat_at, last_heartbeat_at = new.last_heartbeat_at,
    late_at = new.late_at, offline_at = new.offline_at, will_recheck_at = new.will_recheck_at,
    ended_at = new.ended_at, clock_skewed = new.clock_skewed,
    cpu_percent = new.cpu_percent, ram_percent = new.ram_percent, disk_percent = new.disk_percent,
    connectors_running = new.connectors_running, connectors_total = new.connectors_total,
    metrics = new.metrics, connectors = new.connectors
FROM unnest(
    %(device_ids)s::text[], %(statuses)s::text[], %(sinces)s::timestamptz[], %(scores)s::smallint[],
    %(boot_ids)s::uuid[], %(sessions)s::bigint[], %(seqs)s::bigint[], %(intervals)s::integer[],
    %(heartbeat_ats)s::timestamptz[], %(last_heartbeat_ats)s::timestamptz[],
    %(late_ats)s::timestamptz[], %(offline_ats)s::timestamptz[],
    %(will_recheck_ats)s::timestamptz[], %(ended_ats)s::timestamptz[],
    %(clock_skeweds)s::boolean[],
    %(cpu_percents)s::real[], %(ram_percents)s::real[], %(disk_percents)s::real[],
    %(connectors_runnings)s::smallint[], %(connectors_totals)s::smallint[],
    %(metrics)s::jsonb[], %(connectors)s::jsonb[]
) AS new (
    device_id, status, since, score, boot_id, session, seq, interval_s, heartbeat_at,
    last_heartbeat_at, late_at, offline_at, will_recheck_at, ended_at, clock_skewed,
    cpu_percent, ram_percent, disk_percent, connectors_running, connectors_total, metrics, connectors
)
WHERE s.device_id = new.device_id

-- name: sweep
-- Applies the deadlines that `rules/presence.py` set. Silence counts only while somebody listens:
-- a deadline of n seconds must also have passed since `listening_since`. A will is no silence.
WITH due AS (
    SELECT device_id, status AS before,
        CASE
            WHEN will_recheck_at <= %(now)s THEN 'will'
            WHEN greatest(offline_at, offline_at - last_heartbeat_at + %(listening_since)s)
                <= %(now)s THEN 'silent'
            ELSE 'late'
        END AS reason
    FROM device_state
    WHERE (
            status IN ('online', 'warning')
            AND (
                will_recheck_at <= %(now)s
                OR greatest(offline_at, offline_at - last_heartbeat_at + %(listening_since)s)
                    <= %(now)s
            )
        ) OR (
            status = 'online'
            AND greatest(late_at, late_at - last_heartbeat_at + %(listening_since)s) <= %(now)s
        )
    LIMIT %(limit)s
    FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE device_state AS s
SET status = CASE due.reason WHEN 'late' THEN 'warning' ELSE 'offline' END,
    since = %(now)s,
    will_recheck_at = CASE due.reason WHEN 'late' THEN s.will_recheck_at END
FROM due
WHERE s.device_id = due.device_id
RETURNING s.device_id, due.before, s.status AS after, due.reason, s.score
