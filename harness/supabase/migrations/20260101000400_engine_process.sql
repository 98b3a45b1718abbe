-- Processing: pending ▶ completed or failed, in order per aggregate, each event in a subtransaction of its own.

create function odoo.retry_delay(p_failures integer) returns interval
language sql immutable strict parallel safe set search_path = '' as $$
  select case when p_failures between 1 and 10
    then pg_catalog.make_interval(secs => 5 * (2 ^ (p_failures - 1)))
  end
$$;
comment on function odoo.retry_delay(integer) is
  'How long to wait after the n-th failure: 5 s, 10 s, 20 s … 43 min. Null after the first try and ten retries: it stays failed.';

create function odoo.process_aggregate(
  p_instance_id bigint,
  p_aggregate_type text,
  p_aggregate_id text,
  p_limit integer default null,
  out completed integer,
  out superseded integer,
  out failed integer,
  out cancelled boolean
)
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_event odoo.webhook_events%rowtype;
  v_applied odoo.entity_mappings%rowtype;
  v_outcome text;
  v_handler text;
  v_procedure regprocedure;
  v_reason text;
  v_state text;
begin
  completed := 0;
  superseded := 0;
  failed := 0;
  cancelled := false;

  perform pg_advisory_xact_lock(odoo.aggregate_lock('process', p_instance_id, p_aggregate_type, p_aggregate_id));

  for v_event in
    select e.* from odoo.webhook_events e
    where e.instance_id = p_instance_id and e.aggregate_type = p_aggregate_type and e.aggregate_id = p_aggregate_id
      and e.status <> 'completed'
      and (e.status = 'pending'
        or (e.status = 'failed' and e.next_retry_at <= clock_timestamp())
        or (e.status = 'processing' and e.processing_since < clock_timestamp() - interval '5 minutes'))
    -- An event without a sequence stands where it arrived: after the sequences that came before it.
    order by
      coalesce(e.sequence, (
        select max(b.sequence) from odoo.webhook_events b
        where b.instance_id = p_instance_id and b.aggregate_type = p_aggregate_type and b.aggregate_id = p_aggregate_id
          and b.status <> 'completed' and b.id < e.id
      ), 0),
      e.id
    limit p_limit
    -- One that an outside consumer is taking at this moment is its.
    for update of e skip locked
  loop
    v_handler := null;
    begin
      select m.* into v_applied from odoo.entity_mappings m
      where m.instance_id = p_instance_id and m.odoo_model = p_aggregate_type and m.odoo_id = p_aggregate_id
        and m.supabase_schema = 'odoo' and m.supabase_table = 'webhook_events';

      if v_event.sequence < v_applied.sequence
        or ((v_event.sequence is null or v_applied.sequence is null) and v_event.id < v_applied.supabase_id::bigint)
      then
        v_outcome := 'superseded';
      else
        v_outcome := 'applied';

        insert into odoo.entity_mappings as m
          (instance_id, odoo_model, odoo_id, supabase_schema, supabase_table, supabase_id, sequence)
        values
          (p_instance_id, p_aggregate_type, p_aggregate_id, 'odoo', 'webhook_events', v_event.id::text, v_event.sequence)
        on conflict on constraint entity_mappings_once do update
          set supabase_id = excluded.supabase_id,
              sequence = greatest(m.sequence, excluded.sequence),
              updated_at = excluded.updated_at;

        for v_handler in
          select h.handler from odoo.event_handlers h
          where h.enabled
            and (h.event_type = v_event.event_type
              or (right(h.event_type, 2) = '.*' and starts_with(v_event.event_type, left(h.event_type, -1))))
          order by h.id
        loop
          v_procedure := to_regprocedure(v_handler);
          if v_procedure is null then
            raise exception 'no such function: create it, or disable the handler in odoo.event_handlers'
              using errcode = 'undefined_function';
          end if;
          execute format('select %s($1)', v_procedure::oid::regproc) using v_event;
        end loop;
        v_handler := null;
      end if;

      update odoo.webhook_events e
      set status = 'completed', outcome = v_outcome, error_message = null, processed_at = clock_timestamp(), next_retry_at = null
      where e.id = v_event.id;
      completed := completed + 1;
      superseded := superseded + (v_outcome = 'superseded')::integer;
    exception
      -- Named, since "others" leaves it out: a handler that runs into the statement timeout must count as a failure, or it
      -- would be tried for ever. The timeout does not start anew within a statement, so nothing more is begun after it.
      when query_canceled then
        get stacked diagnostics v_reason = message_text, v_state = returned_sqlstate;
        cancelled := true;
      when others then
        get stacked diagnostics v_reason = message_text, v_state = returned_sqlstate;
    end;

    if v_reason is not null then
      update odoo.webhook_events e
      set status = 'failed',
          error_message = left(coalesce('handler ' || v_handler || ': ', '') || v_reason || ' (SQLSTATE ' || v_state || ')', 2000),
          retry_count = e.retry_count + 1,
          processed_at = clock_timestamp(),
          next_retry_at = clock_timestamp() + odoo.retry_delay(e.retry_count + 1)
      where e.id = v_event.id;
      failed := failed + 1;
      v_reason := null;
    end if;
    exit when cancelled;
  end loop;
end
$$;
comment on function odoo.process_aggregate(bigint, text, text, integer) is
  'Processes what is due of one aggregate, oldest first, under its lock: pending, failed and due again, left in processing for 5 minutes. Counts: completed (of them superseded) and failed. cancelled: a timeout or a cancel request ended it early.';

create function odoo.process_event(
  p_id bigint, out completed integer, out superseded integer, out failed integer, out cancelled boolean
)
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_event odoo.webhook_events%rowtype;
begin
  select e.* into v_event from odoo.webhook_events e where e.id = p_id;
  if not found then
    raise exception 'there is no event %', p_id using errcode = 'no_data_found';
  end if;
  select p.completed, p.superseded, p.failed, p.cancelled into completed, superseded, failed, cancelled
  from odoo.process_aggregate(v_event.instance_id, v_event.aggregate_type, v_event.aggregate_id) p;
end
$$;
comment on function odoo.process_event(bigint) is 'Processes what is due of this event''s aggregate, in order. Raises P0002 if there is no such event.';

create function odoo.process_events(
  p_ids bigint[],
  out completed integer,
  out superseded integer,
  out failed integer,
  out remaining bigint[]
)
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_until timestamptz := clock_timestamp() + interval '1 second';
  v_aggregate record;
  v_counts record;
begin
  completed := 0;
  superseded := 0;
  failed := 0;
  remaining := '{}';

  for v_aggregate in
    select e.instance_id, e.aggregate_type, e.aggregate_id, array_agg(e.id) as ids
    from odoo.webhook_events e
    where e.id = any (p_ids)
    group by e.instance_id, e.aggregate_type, e.aggregate_id
    -- Everyone takes the locks in the same order: no two of these calls wait for each other.
    order by odoo.aggregate_lock('process', e.instance_id, e.aggregate_type, e.aggregate_id)
  loop
    -- What is done takes effect when the call ends: a slow handler must not hold up the rest for long.
    if clock_timestamp() > v_until then
      remaining := remaining || v_aggregate.ids;
      continue;
    end if;
    select p.completed, p.superseded, p.failed, p.cancelled into v_counts
    from odoo.process_aggregate(v_aggregate.instance_id, v_aggregate.aggregate_type, v_aggregate.aggregate_id) p;
    completed := completed + v_counts.completed;
    superseded := superseded + v_counts.superseded;
    failed := failed + v_counts.failed;
    if v_counts.cancelled then
      v_until := '-infinity';
    end if;
  end loop;
end
$$;
comment on function odoo.process_events(bigint[]) is
  'process_event for many at once, each aggregate once. Begins no further aggregate after a second, or after a cancelled handler: the ids of those are in remaining.';

create function odoo.sweep_events(
  p_older_than interval default '30 seconds',
  p_limit integer default 500,
  out aggregates integer,
  out completed integer,
  out superseded integer,
  out failed integer,
  out signatures_pruned integer
)
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_until timestamptz := clock_timestamp() + interval '20 seconds';
  v_aggregate record;
  v_counts record;
begin
  if p_limit is null or p_limit < 1 or p_older_than is null then
    raise exception 'p_limit must be at least 1, p_older_than an interval' using errcode = 'invalid_parameter_value';
  end if;
  aggregates := 0;
  completed := 0;
  superseded := 0;
  failed := 0;

  for v_aggregate in
    select d.instance_id, d.aggregate_type, d.aggregate_id
    from (
      (select e.instance_id, e.aggregate_type, e.aggregate_id, e.received_at as due_at from odoo.webhook_events e
       where e.status = 'pending' and e.received_at <= clock_timestamp() - p_older_than
       order by e.received_at limit p_limit)
      union all
      (select e.instance_id, e.aggregate_type, e.aggregate_id, e.next_retry_at from odoo.webhook_events e
       where e.status = 'failed' and e.next_retry_at <= clock_timestamp()
       order by e.next_retry_at limit p_limit)
      union all
      (select e.instance_id, e.aggregate_type, e.aggregate_id, e.processing_since from odoo.webhook_events e
       where e.status = 'processing' and e.processing_since < clock_timestamp() - interval '5 minutes'
       order by e.processing_since limit p_limit)
    ) d
    group by d.instance_id, d.aggregate_type, d.aggregate_id
    order by min(d.due_at)
  loop
    -- Never waits: an aggregate that somebody is processing is in good hands, and the next sweep comes.
    continue when not pg_try_advisory_xact_lock(
      odoo.aggregate_lock('process', v_aggregate.instance_id, v_aggregate.aggregate_type, v_aggregate.aggregate_id));

    select p.completed, p.superseded, p.failed, p.cancelled into v_counts
    from odoo.process_aggregate(
      v_aggregate.instance_id, v_aggregate.aggregate_type, v_aggregate.aggregate_id, p_limit - completed - failed) p;
    aggregates := aggregates + 1;
    completed := completed + v_counts.completed;
    superseded := superseded + v_counts.superseded;
    failed := failed + v_counts.failed;
    exit when v_counts.cancelled or completed + failed >= p_limit or clock_timestamp() > v_until;
  end loop;

  -- Five minutes more than the window: the clocks of the receivers and of the database may differ.
  with pruned as (
    delete from odoo.accepted_signatures s
    where s.signature in (
      select x.signature from odoo.accepted_signatures x
      where x.expires_at < clock_timestamp() - interval '5 minutes'
      order by x.expires_at limit 100000 for update skip locked)
    returning 1
  )
  select count(*) into signatures_pruned from pruned;
end
$$;
comment on function odoo.sweep_events(interval, integer) is
  'What a crash left behind and what is to be tried again: at most p_limit events, at most about 20 seconds. To be called every minute or oftener; calls may overlap.';

revoke execute on function odoo.retry_delay(integer) from public, anon, authenticated;
revoke execute on function odoo.process_aggregate(bigint, text, text, integer) from public, anon, authenticated;
revoke execute on function odoo.process_event(bigint) from public, anon, authenticated;
revoke execute on function odoo.process_events(bigint[]) from public, anon, authenticated;
revoke execute on function odoo.sweep_events(interval, integer) from public, anon, authenticated;
grant execute on function odoo.retry_delay(integer) to service_role;
grant execute on function odoo.process_aggregate(bigint, text, text, integer) to service_role;
grant execute on function odoo.process_event(bigint) to service_role;
grant execute on function odoo.process_events(bigint[]) to service_role;
grant execute on function odoo.sweep_events(interval, integer) to service_role;
