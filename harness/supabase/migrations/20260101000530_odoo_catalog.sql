-- Odoo's models in the catalog: every one that an Odoo has, and none that it has not; the events that it sends; their lineage.
--
-- A model's FQDN is odoo.<db>.<model>. <db> is the name of Odoo's database, in lower case and with _ for what is not a letter
-- or a digit: Prod-2024 is prod_2024. Where another instance has that name already, the instance's own follows: two servers
-- that both call theirs "odoo" are odoo.odoo.* and odoo.odoo__<instance>.*. What was given once stays, in catalog.databases;
-- a database that is renamed takes its models, with their lineage, to its new name.

create table catalog.databases (
  instance_id bigint primary key references odoo.instances (id),
  segment text not null
    constraint databases_segment_form check (segment ~ '^[a-z0-9_]+$' and length(segment) <= 300),
  database text not null
    constraint databases_database_form check (length(database) between 1 and 200),
  named_at timestamptz not null default clock_timestamp(),
  constraint databases_once unique (segment)
);
comment on table catalog.databases is 'What <db> is in the FQDNs of each Odoo: odoo.<db>.<model>, event.<db>.<event type>.';
comment on column catalog.databases.segment is 'Unique, so that two instances with a database of one name stay apart.';
comment on column catalog.databases.database is 'The name in PostgreSQL, as the sync said it.';

create function catalog.name_database(p_instance_id bigint, p_database text) returns text
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_known catalog.databases%rowtype;
  v_instance text := (select i.name from odoo.instances i where i.id = p_instance_id);
  v_segment text := left(regexp_replace(lower(p_database), '[^a-z0-9_]', '_', 'g'), 100);
begin
  if coalesce(length(p_database), 0) not between 1 and 200 then
    raise exception 'the name of the database is required' using errcode = 'invalid_parameter_value';
  end if;
  perform pg_advisory_xact_lock(odoo.aggregate_lock('catalog', 0, 'databases', ''));
  select d.* into v_known from catalog.databases d where d.instance_id = p_instance_id;
  if v_known.database = p_database then
    return v_known.segment;
  end if;
  if exists (select from catalog.databases d where d.segment = v_segment and d.instance_id <> p_instance_id) then
    v_segment := v_segment || '__' || replace(v_instance, '-', '_');
  end if;
  -- a-b and a_b are two instances; and a database may bear such a name.
  if exists (select from catalog.databases d where d.segment = v_segment and d.instance_id <> p_instance_id) then
    v_segment := v_segment || '__' || p_instance_id;
  end if;
  insert into catalog.databases (instance_id, segment, database) values (p_instance_id, v_segment, p_database)
  on conflict (instance_id) do update set segment = excluded.segment, database = excluded.database, named_at = excluded.named_at;
  update odoo.instances i set database = p_database where i.id = p_instance_id and i.database is distinct from p_database;
  if v_known.segment <> v_segment then
    update catalog.assets a
    set fqdn = split_part(a.fqdn, '.', 1) || '.' || v_segment || substr(a.fqdn, length(split_part(a.fqdn, '.', 1) || '.' || v_known.segment) + 1),
        updated_at = clock_timestamp()
    where a.instance_id = p_instance_id and a.origin in ('odoo', 'events');
  end if;
  return v_segment;
end
$$;
comment on function catalog.name_database(bigint, text) is 'What <db> is for this instance, whose database this is: as it was given, or given now.';

create function catalog.store_models(p_instance_id bigint, p_rows jsonb) returns table (outcome text)
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_prefix text := 'odoo.' || (select d.segment from catalog.databases d where d.instance_id = p_instance_id) || '.';
  v_assets jsonb;
begin
  if exists (select from jsonb_array_elements(p_rows) r where jsonb_typeof(r -> 'raw' -> 'model') is distinct from 'string'
    or jsonb_typeof(r -> 'raw' -> 'fields') is distinct from 'object')
  then
    raise exception 'a model has a name and fields' using errcode = 'invalid_parameter_value';
  end if;
  select coalesce(jsonb_agg(jsonb_build_object(
    -- Odoo takes names that no FQDN takes, such as one that ends with a dot.
    'fqdn', v_prefix || case when catalog.is_fqdn(v_prefix || (r -> 'raw' ->> 'model')) then r -> 'raw' ->> 'model'
      else catalog.fold(r -> 'raw' ->> 'model') end,
    'type', 'odoo_model', 'title', r -> 'raw' ->> 'name', 'origin', 'odoo', 'instance_id', p_instance_id, 'odoo_id', r -> 'raw' -> 'id',
    'metadata', (r -> 'raw') - array['id', 'name'])), '[]')
  into v_assets from jsonb_array_elements(p_rows) r;
  -- An id under which Odoo has another model now proves that the one it had is gone, or comes with another id.
  update catalog.assets a set archived_at = clock_timestamp(), updated_at = clock_timestamp()
  where a.instance_id = p_instance_id and a.origin = 'odoo' and a.archived_at is null
    and a.odoo_id in (select (x -> 'odoo_id')::bigint from jsonb_array_elements(v_assets) x)
    and a.fqdn not in (select x ->> 'fqdn' from jsonb_array_elements(v_assets) x);
  return query select p.outcome from catalog.put_assets(v_assets) p;
end
$$;
comment on function catalog.store_models(bigint, jsonb) is 'Stores a page of models with their fields; answers inserted or updated for each that was written.';

create function catalog.archive_models(p_instance_id bigint, p_after bigint, p_upto bigint, p_keep int8multirange) returns bigint
language sql volatile security definer set search_path = '' as $$
  with gone as (
    update catalog.assets a set archived_at = clock_timestamp(), updated_at = clock_timestamp()
    where a.instance_id = p_instance_id and a.origin = 'odoo' and a.archived_at is null
      and a.odoo_id > p_after and (p_upto is null or a.odoo_id <= p_upto) and not a.odoo_id <@ p_keep
    returning 1
  )
  select count(*) from gone
$$;
comment on function catalog.archive_models(bigint, bigint, bigint, int8multirange) is
  'Archives the models with ids after p_after, up to p_upto (null: all above), that are not in p_keep; how many.';

-- ------------------------------------------------------------------------------------------------------ lineage
-- Which kinds of events there are is asked of the index, in as many steps as there are kinds.
create index webhook_events_types on odoo.webhook_events (instance_id, aggregate_type, event_type);

create function catalog.event_types(p_instance_id bigint) returns table (aggregate_type text, event_type text)
language sql stable security definer set search_path = '' as $$
  with recursive kind as (
    (select e.aggregate_type, e.event_type from odoo.webhook_events e
     where e.instance_id = p_instance_id order by e.aggregate_type, e.event_type limit 1)
    union all
    select n.aggregate_type, n.event_type
    from kind k cross join lateral (
      select e.aggregate_type, e.event_type from odoo.webhook_events e
      where e.instance_id = p_instance_id and (e.aggregate_type, e.event_type) > (k.aggregate_type, k.event_type)
      order by e.aggregate_type, e.event_type limit 1) n
  )
  select k.aggregate_type, k.event_type from kind k
$$;
comment on function catalog.event_types(bigint) is 'The kinds of events of this instance that stand in odoo.webhook_events.';

create function catalog.refresh_lineage(p_instance_id bigint) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_prefix text := 'event.' || (select d.segment from catalog.databases d where d.instance_id = p_instance_id) || '.';
  v_inbox constant text := 'supabase.odoo.webhook_events';
  v_events jsonb;
  v_edges jsonb;
  v_counts record;
begin
  if v_prefix is null then
    return jsonb_build_object('edges_added', 0, 'edges_removed', 0);
  end if;
  -- The tables and views that the edges lead to.
  perform catalog.sync_scout_views();

  select coalesce(jsonb_agg(jsonb_build_object('fqdn', v_prefix || k.event_type, 'type', 'event_type', 'title', k.event_type,
    'origin', 'events', 'instance_id', p_instance_id, 'metadata', jsonb_build_object('event_type', k.event_type, 'models', k.models))), '[]')
  into v_events
  from (select t.event_type, jsonb_agg(t.aggregate_type order by t.aggregate_type) as models
    from catalog.event_types(p_instance_id) t group by t.event_type) k;
  perform catalog.put_assets(v_events);
  update catalog.assets a set archived_at = clock_timestamp(), updated_at = clock_timestamp()
  where a.instance_id = p_instance_id and a.origin = 'events' and a.archived_at is null
    and a.fqdn not in (select x ->> 'fqdn' from jsonb_array_elements(v_events) x);

  with model as materialized (
    select a.fqdn, a.metadata ->> 'model' as model, a.metadata -> 'fields' as fields from catalog.assets a
    where a.instance_id = p_instance_id and a.origin = 'odoo' and a.archived_at is null
  ), edge as (
    select m.fqdn as from_fqdn, v_prefix || t.event_type as to_fqdn, 'emits' as kind, '{}'::jsonb as details
    from catalog.event_types(p_instance_id) t join model m on m.model = t.aggregate_type
    union all
    select x ->> 'fqdn', v_inbox, 'stored_in', '{}' from jsonb_array_elements(v_events) x
    union all
    select m.fqdn, catalog.relation_fqdn(t.table_schema, t.table_name), 'synced_to', '{}'
    from catalog.shadow_tables() t join model m on m.model = t.model
    where exists (select from odoo.sync_cursors c where c.instance_id = p_instance_id and c.entity = t.model)
    union all
    select m.fqdn, o.fqdn, 'refers_to', jsonb_build_object('fields', jsonb_agg(f.key order by f.key))
    from model m cross join jsonb_each(m.fields) f join model o on o.model = f.value ->> 'relation'
    group by m.fqdn, o.fqdn
  )
  select jsonb_agg(to_jsonb(e)) into v_edges from edge e;
  select p.added, p.removed into v_counts
  from catalog.put_edges(array['emits', 'stored_in', 'synced_to', 'refers_to'], p_instance_id, coalesce(v_edges, '[]')) p;

  perform catalog.put_edges(array['verified_by'], null, (
    select coalesce(jsonb_agg(jsonb_build_object('from_fqdn', v_inbox, 'kind', 'verified_by',
      'to_fqdn', catalog.relation_fqdn(t.table_schema, t.table_name))), '[]')
    from catalog.shadow_tables() t
    where t.table_schema = 'odoo_seed' and exists (select from odoo.webhook_events e where e.aggregate_type = t.model)));
  return jsonb_build_object('edges_added', v_counts.added, 'edges_removed', v_counts.removed);
end
$$;
comment on function catalog.refresh_lineage(bigint) is
  'Makes the lineage of an instance what its models'' fields, the events that arrived and its syncs say; how many edges were written and deleted. What no event and no relation says any more is deleted.';

do $access$
begin
  alter table catalog.databases enable row level security;
  revoke all on table catalog.databases from public, anon, authenticated;
  grant select on table catalog.databases to service_role;
end
$access$;
revoke execute on function catalog.name_database(bigint, text) from public, anon, authenticated;
revoke execute on function catalog.store_models(bigint, jsonb) from public, anon, authenticated;
revoke execute on function catalog.archive_models(bigint, bigint, bigint, int8multirange) from public, anon, authenticated;
revoke execute on function catalog.event_types(bigint) from public, anon, authenticated;
revoke execute on function catalog.refresh_lineage(bigint) from public, anon, authenticated;
grant execute on function catalog.refresh_lineage(bigint) to service_role;
