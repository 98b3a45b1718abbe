-- The outbox in Odoo's own PostgreSQL: what was emitted, and how far its delivery has come.
-- Every statement may run again and again, and in several processes at once (the installer holds an advisory lock).

create schema if not exists ipai_bridge;

comment on schema ipai_bridge is 'Outbox of ipai_bridge: events written in the business transaction, delivered by the relay.';

create table if not exists ipai_bridge.outbox (
    -- The first five, in the order and sense of Debezium's outbox event router.
    id                 uuid        not null,
    aggregate_type     text        not null,
    aggregate_id       text        not null,
    event_type         text        not null,
    -- json, not jsonb: json keeps the text as it was given, and these bytes are what is signed and sent.
    payload            json        not null,
    sequence           bigint,
    instance           text        not null,
    status             text        not null default 'pending',
    attempts           integer     not null default 0,
    next_attempt_at    timestamptz not null default clock_timestamp(),
    last_status        integer,
    last_error         text,
    created_at         timestamptz not null default clock_timestamp(),
    first_attempted_at timestamptz,
    delivered_at       timestamptz,
    position           bigint      generated always as identity,

    constraint outbox_pkey primary key (id),
    constraint outbox_event_type_form check (event_type ~ '^[a-z][a-z0-9_]*(\.[a-z0-9_]+)+$'),
    constraint outbox_aggregate_type_form check (aggregate_type ~ '^[a-z_][a-z0-9_]*(\.[a-z0-9_]+)*$'),
    constraint outbox_aggregate_id_present check (aggregate_id <> ''),
    constraint outbox_payload_size check (octet_length(payload::text) <= 1048576),
    constraint outbox_instance_form check (instance ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    constraint outbox_status_known check (status in ('pending', 'delivered', 'dead')),
    constraint outbox_sequence_positive check (sequence > 0),
    constraint outbox_attempts_counted check (attempts >= 0),
    -- Nothing is sent before it has its place in the order of its aggregate.
    constraint outbox_settled_in_order check (status = 'pending' or sequence is not null),
    constraint outbox_delivered_when check ((status = 'delivered') = (delivered_at is not null)),
    constraint outbox_dead_why check (status <> 'dead' or last_error is not null)
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05);

comment on table ipai_bridge.outbox is
    'One row per event. pending: to be delivered; delivered: the receiver answered 2xx; dead: given up, see last_error (ipai-bridge outbox retry).';
comment on column ipai_bridge.outbox.id is 'Idempotency key: the same on every attempt. UUID version 7: sorts by time.';
comment on column ipai_bridge.outbox.payload is 'The body of the webhook, byte for byte as it is signed and sent.';
comment on column ipai_bridge.outbox.sequence is 'Dense number within the aggregate (1, 2, 3 ...), given when a relay first sees the event.';
comment on column ipai_bridge.outbox.attempts is 'Attempts made since the event was emitted, or last retried by hand.';
comment on column ipai_bridge.outbox.last_status is 'HTTP status of the last attempt; null when there was no answer.';
comment on column ipai_bridge.outbox.position is 'Order of insertion: the order among events that become visible together.';

create table if not exists ipai_bridge.aggregates (
    aggregate_type text        not null,
    aggregate_id   text        not null,
    instance       text        not null,
    last_sequence  bigint      not null,
    due_at         timestamptz,
    lease_token    uuid,

    constraint aggregates_pkey primary key (aggregate_type, aggregate_id, instance),
    constraint aggregates_last_sequence_positive check (last_sequence > 0),
    -- A lease ends at due_at: one without an end would never be reclaimed.
    constraint aggregates_lease_ends check (lease_token is null or due_at is not null)
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02);

comment on table ipai_bridge.aggregates is
    'One row per aggregate that ever had an event: how far its numbering has come, and who may send for it. Only relays write here.';
comment on column ipai_bridge.aggregates.due_at is
    'When a relay may claim it: its oldest pending event''s next attempt, or the end of the lease. Null: nothing is pending.';
comment on column ipai_bridge.aggregates.lease_token is 'The claim that holds it. A state change that does not name it changes nothing.';

-- Newly emitted events, not numbered yet.
create index if not exists outbox_unnumbered on ipai_bridge.outbox (position) where sequence is null;
-- What an aggregate still has to send, in order; at the same time: no number is given twice.
create unique index if not exists outbox_pending on ipai_bridge.outbox (aggregate_type, aggregate_id, instance, sequence)
    where status = 'pending' and sequence is not null;
create index if not exists outbox_dead on ipai_bridge.outbox (position) where status = 'dead';
create index if not exists outbox_delivered on ipai_bridge.outbox (delivered_at) where status = 'delivered';
create index if not exists aggregates_due on ipai_bridge.aggregates (due_at) where due_at is not null;

-- Raised when the schema changes in a way that older libraries would not understand.
create table if not exists ipai_bridge.schema_version (
    version      integer     not null,
    installed_at timestamptz not null default now(),
    constraint schema_version_pkey primary key (version)
);
insert into ipai_bridge.schema_version (version) values (1) on conflict do nothing;
