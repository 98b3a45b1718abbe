-- Realtime: who hears of which change, on the channel odoo-sync, and a summary that is broadcast there.
--
-- Subscribers of postgres_changes get a row that their policy lets them select, with permissions from their token:
-- events:read for odoo.webhook_events, shadow:read for odoo_seed.shadow_projects and shadow_tasks, catalog:read for
-- catalog.assets. What they should know of Realtime: everyone who may join learns THAT something changed in a published
-- table, and of a deleted row its primary key, because no policy can be asked about a row that is gone.
--
-- Replica identity stays the primary key: FULL would write every row twice into the log. So of an update, a large column that
-- did not change (a payload) is not in the message.

create function odoo.realtime_tables() returns table (name text, permission text)
language sql immutable parallel safe set search_path = '' as $$
  values ('odoo.webhook_events', 'events:read'), ('odoo_seed.shadow_projects', 'shadow:read'),
    ('odoo_seed.shadow_tasks', 'shadow:read'), ('catalog.assets', 'catalog:read')
$$;
comment on function odoo.realtime_tables() is 'The tables whose changes Realtime tells, and the permission that a subscriber needs.';

do $publish$
declare
  v_table regclass;
begin
  for v_table in
    select t.oid from (select to_regclass(r.name) as oid from odoo.realtime_tables() r) t
    where t.oid is not null and not exists (select from pg_publication_tables p
      where p.pubname = 'supabase_realtime' and format('%I.%I', p.schemaname, p.tablename)::regclass = t.oid)
  loop
    execute format('alter publication supabase_realtime add table %s', v_table);
  end loop;
end
$publish$;

-- ------------------------------------------------------------------------------------------------------ access
-- The catalog has its own policies.
grant usage on schema odoo, odoo_seed to authenticated;
grant select on odoo.webhook_events, odoo_seed.shadow_projects, odoo_seed.shadow_tasks to authenticated;
create policy events_readers on odoo.webhook_events for select to authenticated
  using ((select access.permits('events:read')));
create policy shadow_readers on odoo_seed.shadow_projects for select to authenticated
  using ((select access.permits('shadow:read')));
create policy shadow_readers on odoo_seed.shadow_tasks for select to authenticated
  using ((select access.permits('shadow:read')));

-- The summary goes to the private channel of that name: a public one is open to whoever has the anon key, to hear and to send.
do $channel$
begin
  if to_regclass('realtime.messages') is null then
    raise notice 'there is no Realtime here: the channel odoo-sync has no policy';
    return;
  end if;
  create policy odoo_sync_readers on realtime.messages for select to authenticated
    using (extension = 'broadcast' and (select realtime.topic()) = 'odoo-sync' and (select access.permits('events:read')));
end
$channel$;

-- ------------------------------------------------------------------------------------------------------ status
create function odoo.realtime_status() returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  v_tables jsonb;
  v_slots jsonb;
begin
  select jsonb_agg(to_jsonb(t) || jsonb_build_object('missing', to_jsonb(array_remove(array[
      case when not t."exists" then 'table' end,
      case when t."exists" and not t.published then 'publication' end,
      case when t."exists" and not t.rls then 'row level security' end,
      case when t."exists" and cardinality(t.policies) = 0 then 'policy' end,
      case when t."exists" and not t.readable then 'grant' end], null))) order by t.name)
  into v_tables
  from (
    select r.name, r.permission, c.oid is not null as "exists", coalesce(c.relrowsecurity, false) as rls,
      exists (select from pg_catalog.pg_publication_tables p
        where p.pubname = 'supabase_realtime' and p.schemaname = n.nspname and p.tablename = c.relname) as published,
      array(select l.polname::text from pg_catalog.pg_policy l where l.polrelid = c.oid and l.polcmd in ('r', '*') order by 1) as policies,
      coalesce(pg_catalog.has_table_privilege('authenticated', c.oid, 'select')
        and pg_catalog.has_schema_privilege('authenticated', n.oid, 'usage'), false) as readable
    from odoo.realtime_tables() r
    left join pg_catalog.pg_class c on c.oid = pg_catalog.to_regclass(r.name)
    left join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  ) t;
  -- Whose slot it is, only its name tells. There is none while nobody subscribes.
  select coalesce(jsonb_agg(jsonb_build_object('name', s.slot_name, 'plugin', s.plugin, 'active', s.active,
    'lag_bytes', pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), s.confirmed_flush_lsn)) order by s.slot_name), '[]')
  into v_slots
  from pg_catalog.pg_replication_slots s
  where s.database = pg_catalog.current_database() and s.slot_name ~ 'realtime';
  return jsonb_build_object(
    'complete', not exists (select from jsonb_array_elements(v_tables) t where t -> 'missing' <> '[]'),
    'tables', v_tables, 'slots', v_slots);
end
$$;
comment on function odoo.realtime_status() is
  'For each table: whether it is published, guarded and readable, and what is missing of that; and how far behind the slots of Realtime are.';

-- ------------------------------------------------------------------------------------------------- the summary
-- The cursor: {"xid": every transaction before it had ended, "at": when that was, "id": the highest event then}. A number
-- alone would lose what commits late with a lower one. What ran at that moment may be told of twice, and is never left out.
create function odoo.written_since(p_xmin xid, p_since xid8) returns boolean
language sql stable set search_path = '' as $$
  select p_since is null or (x.xid - case when x.xid >= n.next then 4294967296 else 0 end) >= p_since::text::numeric
  from (select pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::numeric as next) n,
    lateral (select trunc(n.next / 4294967296) * 4294967296 + p_xmin::text::numeric as xid) x
$$;
comment on function odoo.written_since(xid, xid8) is
  'Whether a row with this xmin may have been written by a transaction that had not ended at p_since; null: always. For rows of recent days: xmin counts to 4 billion.';

create function odoo.realtime_summary(p_instance_id bigint) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_cursor text := (select c.cursor from odoo.sync_cursors c where c.instance_id = p_instance_id and c.entity = 'realtime');
  v_now pg_snapshot := pg_catalog.pg_current_snapshot();
  v_time timestamptz := clock_timestamp();
  v_xid xid8 := (v_cursor::jsonb ->> 'xid')::xid8;
  v_at timestamptz;
  v_id bigint;
  v_last bigint;
  v_count bigint;
  v_highest bigint;
  v_gone bigint;
  v_tables jsonb := '[]';
begin
  -- A cursor out of another cluster's dump counts other transactions.
  if v_xid is null or v_xid::text::numeric > pg_catalog.pg_snapshot_xmax(v_now)::text::numeric then
    v_xid := null;
    v_at := '-infinity';
    v_id := 0;
  else
    -- No transaction of these tables is longer, nor are there more events under way.
    v_at := (v_cursor::jsonb ->> 'at')::timestamptz - interval '10 minutes';
    v_id := (v_cursor::jsonb ->> 'id')::bigint - 10000;
  end if;

  select coalesce(max(e.id), 0) into v_last from odoo.webhook_events e;
  select count(*), max(e.id) into v_count, v_highest from odoo.webhook_events e
  where e.instance_id = p_instance_id and e.id > v_id and odoo.written_since(e.xmin, v_xid);
  v_tables := v_tables || odoo.realtime_count('odoo.webhook_events', v_count, v_highest, 0);

  select count(*), max(s.odoo_id) into v_count, v_highest from odoo_seed.shadow_projects s
  where s.instance_id = p_instance_id and s.synced_at >= v_at and odoo.written_since(s.xmin, v_xid);
  select count(*) into v_gone from odoo_seed.tombstones t
  where t.instance_id = p_instance_id and t.entity = 'project.project' and t.deleted_at >= v_at and odoo.written_since(t.xmin, v_xid);
  v_tables := v_tables || odoo.realtime_count('odoo_seed.shadow_projects', v_count, v_highest, v_gone);

  select count(*), max(s.odoo_id) into v_count, v_highest from odoo_seed.shadow_tasks s
  where s.instance_id = p_instance_id and s.synced_at >= v_at and odoo.written_since(s.xmin, v_xid);
  select count(*) into v_gone from odoo_seed.tombstones t
  where t.instance_id = p_instance_id and t.entity = 'project.task' and t.deleted_at >= v_at and odoo.written_since(t.xmin, v_xid);
  v_tables := v_tables || odoo.realtime_count('odoo_seed.shadow_tasks', v_count, v_highest, v_gone);

  if pg_catalog.to_regclass('catalog.assets') is not null then
    execute 'select count(*), max(a.id) from catalog.assets a
      where (a.instance_id = $1 or a.instance_id is null) and a.updated_at >= $2 and odoo.written_since(a.xmin, $3)'
    into v_count, v_highest using p_instance_id, v_at, v_xid;
    v_tables := v_tables || odoo.realtime_count('catalog.assets', v_count, v_highest, 0);
  end if;

  return jsonb_build_object(
    'before', v_cursor,
    'after', jsonb_build_object('xid', pg_catalog.pg_snapshot_xmin(v_now)::text, 'at', v_time, 'id', v_last)::text,
    'changed', coalesce((select sum((t ->> 'changed')::bigint + (t ->> 'deleted')::bigint) from jsonb_array_elements(v_tables) t), 0),
    'summary', jsonb_build_object(
      'instance', (select i.name from odoo.instances i where i.id = p_instance_id),
      'since', case when v_xid is not null then v_cursor::jsonb -> 'at' end, 'until', v_time, 'tables', v_tables));
end
$$;
comment on function odoo.realtime_summary(bigint) is
  'What of an instance changed since its cursor: per table how many rows are new or changed, the highest id among them, and how many are gone. after is the cursor for odoo.realtime_sent.';

create function odoo.realtime_count(p_table text, p_changed bigint, p_highest bigint, p_deleted bigint) returns jsonb
language sql immutable parallel safe set search_path = '' as $$
  select case when p_changed + p_deleted = 0 then '[]'::jsonb
    else jsonb_build_array(jsonb_build_object('table', p_table, 'changed', p_changed, 'highest_id', p_highest, 'deleted', p_deleted)) end
$$;
comment on function odoo.realtime_count(text, bigint, bigint, bigint) is 'One line of the summary, in an array; an empty array where nothing changed.';

create function odoo.realtime_request(
  p_instance text, p_key uuid, p_body text, p_signature text, p_signed_at timestamptz, out verdict text, out answer jsonb
)
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_action text := p_body::jsonb ->> 'action';
  v_instance_id bigint;
begin
  select a.instance_id, a.verdict into v_instance_id, verdict from odoo_seed.admit(p_instance, p_key, p_signature, p_signed_at) a;
  if verdict <> 'accepted' then
    return;
  end if;
  if v_action = 'status' then
    answer := odoo.realtime_status();
  elsif v_action = 'broadcast' then
    answer := odoo.realtime_summary(v_instance_id);
  else
    verdict := 'invalid_action';
  end if;
end
$$;
comment on function odoo.realtime_request(text, uuid, text, text, timestamptz) is
  'A verified request to realtime-sync: {"action":"status"} or {"action":"broadcast"}. A broadcast is answered with what to send; odoo.realtime_sent is called when it was.';

create function odoo.realtime_sent(p_instance text, p_before text, p_after text) returns boolean
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_instance_id bigint := (select i.id from odoo.instances i where i.name = p_instance);
begin
  if p_after is null or coalesce(p_after::jsonb ->> 'xid', '') !~ '^[0-9]+$' then
    raise exception 'this is no cursor of odoo.realtime_summary' using errcode = 'invalid_parameter_value';
  end if;
  if p_before is null then
    insert into odoo.sync_cursors as c (instance_id, entity, cursor, last_sync_at)
    values (v_instance_id, 'realtime', p_after, clock_timestamp())
    on conflict (instance_id, entity) do update set cursor = excluded.cursor, last_sync_at = excluded.last_sync_at
      where c.cursor is null;
  else
    update odoo.sync_cursors c set cursor = p_after, last_sync_at = clock_timestamp()
    where c.instance_id = v_instance_id and c.entity = 'realtime' and c.cursor = p_before;
  end if;
  return found;
end
$$;
comment on function odoo.realtime_sent(text, text, text) is
  'Realtime took the summary: the cursor goes from p_before to p_after. False: another broadcast was first, and nothing is changed.';

revoke execute on function odoo.realtime_tables(), odoo.realtime_status(), odoo.written_since(xid, xid8), odoo.realtime_summary(bigint),
  odoo.realtime_count(text, bigint, bigint, bigint), odoo.realtime_request(text, uuid, text, text, timestamptz),
  odoo.realtime_sent(text, text, text) from public, anon, authenticated;
grant execute on function odoo.realtime_status(), odoo.realtime_request(text, uuid, text, text, timestamptz),
  odoo.realtime_sent(text, text, text) to service_role;
