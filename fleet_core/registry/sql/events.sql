-- name: insert
INSERT INTO device_events (
    device_id, at, boot_id, seq, received_at, source, kind, severity, message, data
)
SELECT device_id, at, boot_id, seq, received_at, 'device', kind, severity, message, data
FROM unnest(
    %(device_ids)s::text[], %(ats)s::timestamptz[], %(boot_ids)s::uuid[], %(seqs)s::bigint[],
    %(received_ats)s::timestamptz[], %(kinds)s::text[], %(severities)s::text[],
    %(messages)s::text[], %(datas)s::jsonb[]
) AS new (device_id, at, boot_id, seq, received_at, kind, severity, message, data)
ON CONFLICT DO NOTHING

-- name: insert_of_platform
INSERT INTO device_events (
    device_id, at, boot_id, seq, received_at, source, kind, severity, message, data
)
SELECT device_id, at, '00000000-0000-0000-0000-000000000000', nextval('platform_event_seq'), at,
    'platform', kind, severity, message, data
FROM unnest(
    %(device_ids)s::text[], %(ats)s::timestamptz[], %(kinds)s::text[], %(severities)s::text[],
    %(messages)s::text[], %(datas)s::jsonb[]
) AS new (device_id, at, kind, severity, message, data)

-- name: page
SELECT at, received_at, source, kind, severity, message, data
FROM device_events
WHERE device_id = %(device_id)s AND (%(kind)s::text = '' OR kind = %(kind)s::text)
ORDER BY at DESC, received_at DESC, seq DESC
LIMIT %(limit)s OFFSET %(offset)s

-- name: count
SELECT count(*) AS total
FROM device_events
WHERE device_id = %(device_id)s AND (%(kind)s::text = '' OR kind = %(kind)s::text)
