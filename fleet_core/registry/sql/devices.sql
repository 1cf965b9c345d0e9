-- name: add_sites
INSERT INTO sites (tenant_id, name)
SELECT DISTINCT %(tenant_id)s, name FROM unnest(%(sites)s::text[]) AS name
ON CONFLICT DO NOTHING

-- name: register
WITH added AS (
    INSERT INTO devices (device_id, tenant_id, name, site, owner, tags)
    SELECT device_id, %(tenant_id)s, name, site, owner, tags
    FROM unnest(
        %(device_ids)s::text[], %(names)s::text[], %(sites)s::text[], %(owners)s::text[],
        %(tags)s::jsonb[]
    ) AS new (device_id, name, site, owner, tags)
    ORDER BY device_id
    ON CONFLICT (device_id) DO NOTHING
    RETURNING device_id
), state AS (
    INSERT INTO device_state (device_id) SELECT device_id FROM added
)
SELECT device_id FROM added ORDER BY device_id

-- name: save_info
UPDATE devices AS d
SET info = new.info, info_boot_id = new.boot_id, info_seq = new.seq,
    hostname = coalesce(new.info ->> 'hostname', ''),
    addresses = ARRAY(SELECT jsonb_array_elements_text(coalesce(new.info -> 'addresses', '[]')))
FROM unnest(
    %(device_ids)s::text[], %(boot_ids)s::uuid[], %(seqs)s::bigint[], %(infos)s::jsonb[]
) AS new (device_id, boot_id, seq, info)
WHERE d.device_id = new.device_id
    AND d.info IS DISTINCT FROM new.info
    AND (d.info_boot_id IS DISTINCT FROM new.boot_id OR d.info_seq < new.seq)

-- name: known
SELECT device_id FROM devices WHERE device_id = ANY(%(device_ids)s::text[])

-- name: live
SELECT d.device_id, d.tenant_id, d.name, d.site, s.status, s.since, s.score, s.last_heartbeat_at,
    s.cpu_percent, s.ram_percent, s.disk_percent, s.connectors_running, s.connectors_total, d.tags
FROM devices d JOIN device_state s USING (device_id)
WHERE d.device_id = ANY(%(device_ids)s::text[])

-- name: matching
-- The condition of a device list, for the statements below.
WHERE d.tenant_id = %(tenant_id)s
    AND (%(statuses)s::text[] = '{}' OR s.status = ANY(%(statuses)s::text[]))
    AND (%(sites)s::text[] = '{}' OR d.site = ANY(%(sites)s::text[]))
    AND d.tags @> %(tags)s::jsonb
    AND (
        %(text)s::text = ''
        OR position(lower(%(text)s::text) IN lower(
            d.device_id || ' ' || d.name || ' ' || d.hostname || ' ' || array_to_string(d.addresses, ' ')
        )) > 0
    )

-- name: page
SELECT d.device_id, d.name, d.site, s.status, s.since, s.score, s.cpu_percent, s.ram_percent,
    s.disk_percent, s.connectors_running, s.connectors_total, s.last_heartbeat_at AS last_seen_at,
    d.hostname, d.addresses, (s.metrics ->> 'uptime_s')::bigint AS uptime_s, d.tags
FROM devices d JOIN device_state s USING (device_id)
{matching}
ORDER BY
    {order},
    d.device_id
LIMIT %(limit)s OFFSET %(offset)s

-- name: count
SELECT count(*) AS total
FROM devices d JOIN device_state s USING (device_id)
{matching}

-- name: detail
SELECT d.device_id, d.name, d.site, s.status, s.since, s.score, s.cpu_percent, s.ram_percent,
    s.disk_percent, s.connectors_running, s.connectors_total, s.last_heartbeat_at AS last_seen_at,
    d.hostname, d.addresses, (s.metrics ->> 'uptime_s')::bigint AS uptime_s, d.tags,
    d.owner, d.tenant_id AS tenant, d.lifecycle, d.registered_at, d.info, s.metrics, s.connectors,
    s.interval_s, s.boot_id, s.session, s.clock_skewed
FROM devices d JOIN device_state s USING (device_id)
WHERE d.tenant_id = %(tenant_id)s AND d.device_id = %(device_id)s

-- name: summary
SELECT s.status, count(*) AS devices,
    count(*) FILTER (WHERE s.last_heartbeat_at IS NOT NULL) AS seen,
    avg(s.cpu_percent) AS cpu_mean, max(s.cpu_percent) AS cpu_peak,
    avg(s.ram_percent) AS ram_mean, max(s.ram_percent) AS ram_peak,
    avg(s.disk_percent) AS disk_mean, max(s.disk_percent) AS disk_peak
FROM devices d JOIN device_state s USING (device_id)
WHERE d.tenant_id = %(tenant_id)s
GROUP BY s.status
