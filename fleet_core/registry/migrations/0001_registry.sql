-- Who the devices are. Changes rarely, indexed freely.
CREATE TABLE tenants (
    tenant_id text PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO tenants (tenant_id) VALUES ('default');

CREATE TABLE sites (
    tenant_id text NOT NULL REFERENCES tenants,
    name text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, name)
);

CREATE TABLE devices (
    device_id text PRIMARY KEY,
    tenant_id text NOT NULL REFERENCES tenants,
    name text NOT NULL,
    site text NOT NULL,
    owner text NOT NULL DEFAULT '',
    lifecycle text NOT NULL DEFAULT 'provisioned',
    tags jsonb NOT NULL DEFAULT '{}',
    -- what the device says of itself: fleet_core.contract.messages.DeviceInfo
    info jsonb NOT NULL DEFAULT '{}',
    -- the heartbeat that said so: an older one that arrives late must not win
    info_boot_id uuid,
    info_seq bigint NOT NULL DEFAULT 0,
    hostname text NOT NULL DEFAULT '',
    addresses text[] NOT NULL DEFAULT '{}',
    registered_at timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (tenant_id, site) REFERENCES sites
);
CREATE INDEX devices_by_site ON devices (tenant_id, site);
CREATE INDEX devices_by_tag ON devices USING gin (tags jsonb_path_ops);

-- How the devices are. Changes with every heartbeat: narrow, room on the page for the new version,
-- no index on a changing column, so that an update stays HOT. A row per device from registration.
CREATE TABLE device_state (
    device_id text PRIMARY KEY REFERENCES devices ON DELETE CASCADE,
    status text NOT NULL DEFAULT 'unseen',
    since timestamptz NOT NULL DEFAULT now(),
    updating boolean NOT NULL DEFAULT false,
    clock_skewed boolean NOT NULL DEFAULT false,
    score smallint,
    connectors_running smallint NOT NULL DEFAULT 0,
    connectors_total smallint NOT NULL DEFAULT 0,
    interval_s integer,
    session bigint NOT NULL DEFAULT 0,
    seq bigint NOT NULL DEFAULT 0,
    boot_id uuid,
    heartbeat_at timestamptz,
    last_heartbeat_at timestamptz,
    late_at timestamptz,
    offline_at timestamptz,
    will_recheck_at timestamptz,
    ended_at timestamptz,
    cpu_percent real,
    ram_percent real,
    disk_percent real,
    -- the newest sample, whole: fleet_core.contract.messages.Metrics and [Connector]
    metrics jsonb,
    connectors jsonb
) WITH (fillfactor = 50);

-- Histories. Keys hold the device's own time and (boot_id, seq): a redelivery can't store twice.
CREATE TABLE heartbeats (
    device_id text NOT NULL,
    at timestamptz NOT NULL,
    boot_id uuid NOT NULL,
    seq bigint NOT NULL,
    received_at timestamptz NOT NULL,
    score smallint NOT NULL,
    cpu_percent real NOT NULL,
    ram_percent real NOT NULL,
    disk_percent real NOT NULL,
    network_received_bytes_per_s real,
    network_sent_bytes_per_s real,
    uptime_s bigint,
    connectors_running smallint NOT NULL,
    connectors_total smallint NOT NULL,
    custom jsonb,
    PRIMARY KEY (device_id, at, boot_id, seq)
);

CREATE TABLE device_events (
    device_id text NOT NULL,
    at timestamptz NOT NULL,
    boot_id uuid NOT NULL,
    seq bigint NOT NULL,
    received_at timestamptz NOT NULL,
    source text NOT NULL,
    kind text NOT NULL,
    severity text NOT NULL,
    message text NOT NULL,
    data jsonb NOT NULL,
    PRIMARY KEY (device_id, at, boot_id, seq)
);
-- Numbers the platform's own events, which carry the nil boot id.
CREATE SEQUENCE platform_event_seq;

-- What was refused, and why.
CREATE TABLE dead_letters (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    received_at timestamptz NOT NULL,
    topic text NOT NULL,
    reason text NOT NULL,
    detail text NOT NULL,
    payload bytea NOT NULL,
    size_bytes integer NOT NULL
);
CREATE INDEX dead_letters_by_reason ON dead_letters (reason, id);
CREATE INDEX dead_letters_by_time ON dead_letters USING brin (received_at);

-- What must still be published, in order.
CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL,
    payload bytea NOT NULL,
    qos smallint NOT NULL,
    retain boolean NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Devices whose live picture is out of date. Ids, not pictures: one process publishes what is true
-- when it publishes, so that two changes can't arrive in the wrong order (docs/adr/0005).
CREATE TABLE live_changes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    device_id text NOT NULL,
    -- announced anew after a connection, and not changed: goes last
    background boolean NOT NULL DEFAULT false
);
CREATE INDEX live_changes_in_order ON live_changes (background, id);

-- Requests of operators that changed something, with the answer they got.
CREATE TABLE operator_requests (
    operator_id text NOT NULL,
    request_id text NOT NULL,
    operation text NOT NULL,
    received_at timestamptz NOT NULL,
    response bytea NOT NULL,
    PRIMARY KEY (operator_id, request_id)
);

-- The platform's own processes, as their MQTT status says.
CREATE TABLE services (
    service_id text PRIMARY KEY,
    role text NOT NULL,
    instance text NOT NULL,
    state text NOT NULL,
    reason text NOT NULL,
    pid bigint NOT NULL,
    version text NOT NULL,
    interval_s integer NOT NULL,
    started_at timestamptz NOT NULL,
    at timestamptz NOT NULL,
    received_at timestamptz NOT NULL,
    counters jsonb NOT NULL
);

-- Since when each ingest process hears devices without a gap: silence only counts while somebody
-- listens.
CREATE TABLE listeners (
    instance text PRIMARY KEY,
    listening_since timestamptz NOT NULL,
    seen_at timestamptz NOT NULL
);

-- Totals that would take a scan; a row for each process, so that none waits for another.
CREATE TABLE counters (
    name text NOT NULL,
    instance text NOT NULL,
    value bigint NOT NULL,
    first_at timestamptz NOT NULL,
    PRIMARY KEY (name, instance)
);
