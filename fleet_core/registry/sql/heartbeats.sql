-- name: insert
INSERT INTO heartbeats (
    device_id, at, boot_id, seq, received_at, score, cpu_percent, ram_percent, disk_percent,
    network_received_bytes_per_s, network_sent_bytes_per_s, uptime_s, connectors_running,
    connectors_total, custom
)
SELECT * FROM unnest(
    %(device_ids)s::text[], %(ats)s::timestamptz[], %(boot_ids)s::uuid[], %(seqs)s::bigint[],
    %(received_ats)s::timestamptz[], %(scores)s::smallint[], %(cpu_percents)s::real[],
    %(ram_percents)s::real[], %(disk_percents)s::real[], %(network_receiveds)s::real[],
    %(network_sents)s::real[], %(uptimes)s::bigint[], %(connectors_runnings)s::smallint[],
    %(connectors_totals)s::smallint[], %(customs)s::jsonb[]
)
ON CONFLICT DO NOTHING
