-- Schema odoo: what Odoo sent, what became of it, and where each record of Odoo is found on this side.
--
-- Everything that changes a state is a SQL function (the next migrations). Nothing here is reachable for anon, or for
-- authenticated but by the policies of later layers: row-level security is on for every table.

create schema if not exists odoo;
comment on schema odoo is 'Events out of Odoo: the inbox, its append-only log, cursors and mappings. Written by SQL functions, for service_role only.';
revoke all on schema odoo from public, anon, authenticated;
grant usage on schema odoo to service_role;

-- ------------------------------------------------------------------------------------------------------ instances
create table odoo.instances (
  id bigint generated always as identity primary key,
  name text not null unique
    constraint instances_name_form check (name ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
  base_url text
    constraint instances_base_url_form check (base_url ~ '^https?://[^[:space:]]+$' and length(base_url) <= 2000),
  database text
    constraint instances_database_form check (length(database) between 1 and 200),
  active boolean not null default true,
  config jsonb not null default '{}'
    constraint instances_config_object check (jsonb_typeof(config) = 'object'),
  created_at timestamptz not null default now()
);
comment on table odoo.instances is 'The Odoo databases that send events. An unknown one registers itself by its first validly signed event.';
comment on column odoo.instances.name is 'What the sender calls itself in x-ipai-instance.';
comment on column odoo.instances.base_url is 'Where people reach this Odoo; for links, never called by the receiver.';
comment on column odoo.instances.database is 'The name of its PostgreSQL database, where known.';
comment on column odoo.instances.active is 'False: its events are refused with 403 instance_inactive, and nothing of them is stored.';
comment on column odoo.instances.config is 'Free for the integration engineer; a JSON object.';

-- -------------------------------------------------------------------------------------------------- webhook_events
--
--              ingest_event            process_event / sweep_events
--   (arrives) ─────────────▶ pending ─────────────────────────────▶ completed (applied | superseded)
--                              │  ▲                                     ▲
--       an outside consumer    ▼  │ 5 minutes without an end            │
--                           processing ─────────────────────────────────┤
--                              │                                        │
--                              ▼         retried by sweep_events        │
--                            failed ────────────────────────────────────┘   (up to 10 times, then it stays failed)
create table odoo.webhook_events (
  id bigint generated always as identity primary key,
  instance_id bigint not null references odoo.instances (id),
  idempotency_key uuid not null,
  sequence bigint
    constraint webhook_events_sequence_positive check (sequence > 0),
  event_type text not null
    constraint webhook_events_event_type_form
      check (event_type ~ '^[a-z][a-z0-9_]*(\.[a-z0-9_]+)+$' and length(event_type) <= 200),
  aggregate_type text not null
    constraint webhook_events_aggregate_type_form
      check (aggregate_type ~ '^[a-z_][a-z0-9_]*(\.[a-z0-9_]+)*$' and length(aggregate_type) <= 200),
  aggregate_id text not null
    constraint webhook_events_aggregate_id_form check (length(aggregate_id) between 1 and 200 and aggregate_id !~ '[\u0001-\u001f\u007f-\u009f]'),
  status text not null default 'pending'
    constraint webhook_events_status_known check (status in ('pending', 'processing', 'completed', 'failed')),
  outcome text
    constraint webhook_events_outcome_known check (outcome in ('applied', 'superseded')),
  retry_count integer not null default 0
    constraint webhook_events_retry_count_sane check (retry_count >= 0),
  error_message text,
  received_at timestamptz not null default clock_timestamp(),
  processing_since timestamptz,
  processed_at timestamptz,
  next_retry_at timestamptz,
  payload jsonb not null
    constraint webhook_events_payload_object check (jsonb_typeof(payload) = 'object'),
  constraint webhook_events_once unique (instance_id, idempotency_key),
  constraint webhook_events_outcome_when_completed check ((status = 'completed') = (outcome is not null)),
  constraint webhook_events_error_when_failed check (status <> 'failed' or error_message is not null),
  constraint webhook_events_processed_when_ended check ((status in ('completed', 'failed')) = (processed_at is not null)),
  constraint webhook_events_since_when_processing check ((status = 'processing') = (processing_since is not null)),
  constraint webhook_events_retry_when_failed check (next_retry_at is null or status = 'failed')
);
comment on table odoo.webhook_events is 'The inbox: one row per event, whatever the number of its deliveries.';
comment on column odoo.webhook_events.idempotency_key is 'The event''s id, given by the sender; the same on every attempt.';
comment on column odoo.webhook_events.sequence is 'Dense number of the event within its aggregate (1, 2, 3 …); null from a sender that gives none: then the order is that of arrival.';
comment on column odoo.webhook_events.aggregate_type is 'The Odoo model, for example account.move.';
comment on column odoo.webhook_events.aggregate_id is 'The record''s id, as text.';
comment on column odoo.webhook_events.status is 'pending, processing (an outside consumer has it), completed or failed.';
comment on column odoo.webhook_events.outcome is 'Set when completed. applied: took effect. superseded: something newer of the aggregate had been applied before, so no handler was called.';
comment on column odoo.webhook_events.retry_count is 'How often processing failed.';
comment on column odoo.webhook_events.error_message is 'Why it failed the last time.';
comment on column odoo.webhook_events.processing_since is 'When an outside consumer set status to processing (stamped by a trigger).';
comment on column odoo.webhook_events.processed_at is 'When it completed or last failed.';
comment on column odoo.webhook_events.next_retry_at is 'When the sweep tries a failed event again; null: it does not.';
comment on column odoo.webhook_events.payload is 'As sent; numbers keep their precision.';

-- Each stays as small as what is still open, however many events are completed.
create index webhook_events_pending on odoo.webhook_events (received_at) where status = 'pending';
create index webhook_events_retry on odoo.webhook_events (next_retry_at) where status = 'failed' and next_retry_at is not null;
create index webhook_events_processing on odoo.webhook_events (processing_since) where status = 'processing';
create index webhook_events_open on odoo.webhook_events (instance_id, aggregate_type, aggregate_id, id) where status <> 'completed';
-- For people: what happened to this record.
create index webhook_events_aggregate on odoo.webhook_events (aggregate_type, aggregate_id, id);

create function odoo.stamp_processing() returns trigger
language plpgsql set search_path = '' as $$
begin
  if new.status <> 'processing' then
    new.processing_since := null;
  elsif tg_op = 'INSERT' or old.status <> 'processing' then
    new.processing_since := clock_timestamp();
    new.processed_at := null;
    new.next_retry_at := null;
  end if;
  return new;
end
$$;
comment on function odoo.stamp_processing() is 'Trigger: a consumer only sets the status; since when is noted for it, so that a crashed consumer is noticed.';

create trigger stamp_processing before insert or update of status on odoo.webhook_events
  for each row execute function odoo.stamp_processing();

-- ------------------------------------------------------------------------------------------------------- event_log
create table odoo.event_log (
  id bigint generated always as identity primary key,
  -- No foreign keys: the log outlives what it tells of.
  event_id bigint not null unique,
  instance_id bigint not null,
  idempotency_key uuid not null,
  event_type text not null,
  aggregate_type text not null,
  aggregate_id text not null,
  sequence bigint,
  expected_sequence bigint,
  missing bigint generated always as (greatest(sequence - expected_sequence, 0)) stored,
  stale boolean generated always as (coalesce(sequence < expected_sequence, false)) stored,
  logged_at timestamptz not null default clock_timestamp(),
  constraint event_log_expected_with_sequence check ((sequence is null) = (expected_sequence is null))
);
comment on table odoo.event_log is 'Append-only: exactly one row per event, written when it is ingested. Update, delete and truncate are refused.';
comment on column odoo.event_log.expected_sequence is 'One more than the highest sequence seen of this aggregate before; null if the event carries none.';
comment on column odoo.event_log.missing is 'How many events between the last one seen and this one had not arrived when it was ingested.';
comment on column odoo.event_log.stale is 'True: a newer event of the aggregate (or one with the same sequence) had arrived before.';

create index event_log_aggregate on odoo.event_log (instance_id, aggregate_type, aggregate_id, sequence);
create index event_log_gaps on odoo.event_log (logged_at) where missing > 0 or stale;

create function odoo.refuse_change() returns trigger
language plpgsql set search_path = '' as $$
begin
  raise exception '%.% is append-only: % refused', tg_table_schema, tg_table_name, lower(tg_op)
    using errcode = 'object_not_in_prerequisite_state';
end
$$;
comment on function odoo.refuse_change() is 'Trigger of append-only tables: refuses the statement, even one that would change no row.';

create trigger append_only before update or delete or truncate on odoo.event_log
  for each statement execute function odoo.refuse_change();

-- ------------------------------------------------------------------------------------------ cursors and mappings
create table odoo.sync_cursors (
  instance_id bigint not null references odoo.instances (id),
  entity text not null
    constraint sync_cursors_entity_form check (length(entity) between 1 and 200),
  cursor text,
  last_sync_at timestamptz,
  primary key (instance_id, entity)
);
comment on table odoo.sync_cursors is 'How far each scheduled sync has come, per instance and entity.';
comment on column odoo.sync_cursors.cursor is 'Opaque to everyone but the sync that wrote it.';

create table odoo.entity_mappings (
  instance_id bigint not null references odoo.instances (id),
  odoo_model text not null,
  odoo_id text not null,
  supabase_schema text not null,
  supabase_table text not null,
  supabase_id text not null,
  sequence bigint
    constraint entity_mappings_sequence_positive check (sequence > 0),
  updated_at timestamptz not null default clock_timestamp(),
  constraint entity_mappings_once primary key (instance_id, odoo_model, odoo_id, supabase_schema, supabase_table)
);
comment on table odoo.entity_mappings is 'Where a record of Odoo is found on this side. The row for odoo.webhook_events points to the newest event that took effect.';
comment on column odoo.entity_mappings.supabase_id is 'The primary key over there, as text.';
comment on column odoo.entity_mappings.sequence is 'The highest sequence that took effect; it never goes back.';
create index entity_mappings_target on odoo.entity_mappings (supabase_schema, supabase_table, supabase_id);

-- ---------------------------------------------------------------------------------------------- event_handlers
create table odoo.event_handlers (
  id bigint generated always as identity primary key,
  event_type text not null
    constraint event_handlers_event_type_form check (event_type ~ '^[a-z][a-z0-9_]*(\.[a-z0-9_]+)*(\.\*)?$'),
  handler text not null
    constraint event_handlers_handler_form check (handler ~ '^[^()]+\(odoo\.webhook_events\)$'),
  enabled boolean not null default true,
  description text,
  created_at timestamptz not null default now(),
  constraint event_handlers_once unique (event_type, handler)
);
comment on table odoo.event_handlers is 'What is called for an event, in the order of id, in the same transaction that completes it.';
comment on column odoo.event_handlers.event_type is 'An event type, or a prefix and a star: account.move.posted, account.move.*';
comment on column odoo.event_handlers.handler is 'The function with its schema and argument: my_schema.my_handler(odoo.webhook_events). It runs with the rights of the owner of schema odoo and an empty search_path. If it does not exist, the events fail and say so.';

-- ------------------------------------------------------------------------------------------ accepted_signatures
create table odoo.accepted_signatures (
  signature bytea primary key
    constraint accepted_signatures_length check (octet_length(signature) = 32),
  instance text not null,
  idempotency_key uuid not null,
  expires_at timestamptz not null
);
comment on table odoo.accepted_signatures is
  'Every signature accepted within the replay window, of every instance: neither the idempotency key nor the instance is among the signed bytes, so a captured request could else be sent again under another.';
comment on column odoo.accepted_signatures.expires_at is 'When its timestamp leaves the replay window; swept after that.';
create index accepted_signatures_expiry on odoo.accepted_signatures (expires_at);

-- ----------------------------------------------------------------------------------------------------- access
do $access$
declare
  v_table text;
begin
  foreach v_table in array array['instances', 'webhook_events', 'event_log', 'sync_cursors', 'entity_mappings', 'event_handlers',
    'accepted_signatures'] loop
    execute format('alter table odoo.%I enable row level security', v_table);
    execute format('revoke all on table odoo.%I from public, anon, authenticated', v_table);
    execute format('grant select, insert, update, delete on table odoo.%I to service_role', v_table);
  end loop;
end
$access$;
-- The log is written by ingest_event alone, signatures are nobody's business.
revoke insert, update, delete on odoo.event_log from service_role;
revoke all on odoo.accepted_signatures from service_role;

revoke execute on function odoo.stamp_processing(), odoo.refuse_change() from public, anon, authenticated;
