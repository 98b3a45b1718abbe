-- Ingest: one call, one transaction, one round trip.

create function odoo.aggregate_lock(p_purpose text, p_instance_id bigint, p_aggregate_type text, p_aggregate_id text) returns bigint
language sql immutable strict parallel safe set search_path = '' as $$
  select pg_catalog.hashtextextended(
    pg_catalog.concat_ws(pg_catalog.chr(31), p_purpose, p_instance_id, p_aggregate_type, p_aggregate_id), 0)
$$;
comment on function odoo.aggregate_lock(text, bigint, text, text) is
  'The key of the advisory lock under which an aggregate is ingested (purpose ingest) or processed (purpose process). Two locks: a slow handler must not keep events out.';

create function odoo.ingest_event(
  p_instance text,
  p_idempotency_key uuid,
  p_sequence bigint,
  p_body text,
  p_signature text,
  p_signed_at timestamptz
) returns table (id bigint, duplicate boolean, verdict text)
language plpgsql volatile security definer set search_path = '' as $$
#variable_conflict use_column
declare
  v_signature bytea := decode(p_signature, 'hex');
  v_seen odoo.accepted_signatures%rowtype;
  v_instance odoo.instances%rowtype;
  v_event_id bigint;
  v_body jsonb;
  v_expected bigint;
begin
  if p_instance is null or p_idempotency_key is null or p_body is null or v_signature is null or p_signed_at is null then
    raise exception 'instance, idempotency key, body, signature and its time are required' using errcode = 'null_value_not_allowed';
  end if;

  -- First, and by inserting: of two concurrent requests with one signature the second waits here for the first to commit.
  insert into odoo.accepted_signatures (signature, instance, idempotency_key, expires_at)
  values (v_signature, p_instance, p_idempotency_key, p_signed_at + interval '5 minutes')
  on conflict (signature) do nothing;
  if not found then
    select s.* into v_seen from odoo.accepted_signatures s where s.signature = v_signature;
    -- Gone meanwhile (swept): its time has left the replay window, so it is refused as well.
    if v_seen.instance is distinct from p_instance or v_seen.idempotency_key is distinct from p_idempotency_key then
      return query select null::bigint, false, 'replayed_signature';
      return;
    end if;
  end if;

  select i.* into v_instance from odoo.instances i where i.name = p_instance;
  if not found then
    insert into odoo.instances (name) values (p_instance) on conflict (name) do nothing;
    select i.* into strict v_instance from odoo.instances i where i.name = p_instance;
  end if;
  if not v_instance.active then
    return query select null::bigint, false, 'instance_inactive';
    return;
  end if;

  -- Before the body is looked at: a key seen before is a duplicate whatever comes with it.
  select e.id into v_event_id from odoo.webhook_events e
  where e.instance_id = v_instance.id and e.idempotency_key = p_idempotency_key;
  if found then
    return query select v_event_id, true, 'duplicate';
    return;
  end if;

  -- json keeps a key that comes twice, jsonb does not; the payload is taken as jsonb, whose numbers are exact.
  v_body := p_body::jsonb;
  if jsonb_typeof(v_body) <> 'object'
    or (select array_agg(k order by k) from json_object_keys(p_body::json) k)
       is distinct from array['aggregate_id', 'aggregate_type', 'event_type', 'payload']
    or jsonb_typeof(v_body -> 'event_type') <> 'string'
    or jsonb_typeof(v_body -> 'aggregate_type') <> 'string'
    or jsonb_typeof(v_body -> 'aggregate_id') <> 'string'
  then
    raise exception 'the body is not an object with exactly event_type, aggregate_type, aggregate_id and payload'
      using errcode = 'invalid_parameter_value';
  end if;

  insert into odoo.webhook_events
    (instance_id, idempotency_key, sequence, event_type, aggregate_type, aggregate_id, payload)
  values
    (v_instance.id, p_idempotency_key, p_sequence, v_body ->> 'event_type', v_body ->> 'aggregate_type',
     v_body ->> 'aggregate_id', v_body -> 'payload')
  on conflict (instance_id, idempotency_key) do nothing
  returning webhook_events.id into v_event_id;
  if not found then
    select e.id into strict v_event_id from odoo.webhook_events e
    where e.instance_id = v_instance.id and e.idempotency_key = p_idempotency_key;
    return query select v_event_id, true, 'duplicate';
    return;
  end if;

  if p_sequence is not null then
    -- So that two events of the aggregate that arrive at once see one another in the log.
    perform pg_advisory_xact_lock(
      odoo.aggregate_lock('ingest', v_instance.id, v_body ->> 'aggregate_type', v_body ->> 'aggregate_id'));
    select coalesce(max(l.sequence), 0) + 1 into v_expected from odoo.event_log l
    where l.instance_id = v_instance.id and l.aggregate_type = v_body ->> 'aggregate_type'
      and l.aggregate_id = v_body ->> 'aggregate_id' and l.sequence is not null;
  end if;

  insert into odoo.event_log
    (event_id, instance_id, idempotency_key, event_type, aggregate_type, aggregate_id, sequence, expected_sequence)
  values
    (v_event_id, v_instance.id, p_idempotency_key, v_body ->> 'event_type', v_body ->> 'aggregate_type',
     v_body ->> 'aggregate_id', p_sequence, v_expected);

  return query select v_event_id, false, 'accepted';
end
$$;
comment on function odoo.ingest_event(text, uuid, bigint, text, text, timestamptz) is
  'Stores a verified event as pending, with its row of the log, once. verdict: accepted, duplicate (changed nothing), replayed_signature (this signature came before under another key or instance), instance_inactive. Raises class 22 or 23514 for a body that is not an event.';

revoke execute on function odoo.aggregate_lock(text, bigint, text, text) from public, anon, authenticated;
revoke execute on function odoo.ingest_event(text, uuid, bigint, text, text, timestamptz) from public, anon, authenticated;
grant execute on function odoo.ingest_event(text, uuid, bigint, text, text, timestamptz) to service_role;
