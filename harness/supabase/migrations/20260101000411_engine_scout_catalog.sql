-- The catalog's view of this database: what stands in scout_gold, and which view reads what, from PostgreSQL's own catalogues.

create function catalog.relation_fqdn(p_schema text, p_name text) returns text
language sql immutable strict parallel safe set search_path = '' as $$
  select case p_schema when 'scout_gold' then 'scout.gold.' else 'supabase.' || catalog.fold(p_schema) || '.' end || catalog.fold(p_name)
$$;
comment on function catalog.relation_fqdn(text, text) is 'The FQDN of a table or view of this database.';

create function catalog.shadow_tables() returns table (model text, table_schema text, table_name text)
language sql immutable parallel safe set search_path = '' as $$
  values ('project.project', 'odoo_seed', 'shadow_projects'), ('project.task', 'odoo_seed', 'shadow_tasks'),
    ('ir.module.module', 'odoo', 'modules')
$$;
comment on function catalog.shadow_tables() is 'Into which table of this side a scheduled sync puts which model of Odoo.';

create function catalog.view_sources() returns table (view_id oid, source_id oid)
language sql stable set search_path = '' as $$
  with recursive reads as (
    -- A view is a rule, and the rule depends on what the view reads: whatever the schema, and however the text names it.
    select distinct r.ev_class as view_id, d.refobjid as source_id
    from pg_catalog.pg_rewrite r
    join pg_catalog.pg_class v on v.oid = r.ev_class and v.relkind in ('v', 'm')
    join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_rewrite'::regclass and d.objid = r.oid
      and d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid <> r.ev_class
    join pg_catalog.pg_class s on s.oid = d.refobjid and s.relkind in ('r', 'p', 'v', 'm', 'f')
    join pg_catalog.pg_namespace n on n.oid = s.relnamespace and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
  ), wanted as (
    select d.view_id, d.source_id from reads d
    join pg_catalog.pg_class v on v.oid = d.view_id
    join pg_catalog.pg_namespace n on n.oid = v.relnamespace and n.nspname in ('scout_gold', 'odoo_seed', 'odoo')
    union
    select d.view_id, d.source_id from wanted w join reads d on d.view_id = w.source_id
  )
  select w.view_id, w.source_id from wanted w
$$;
comment on function catalog.view_sources() is 'What the views of scout_gold, odoo_seed and odoo read, and the views that these read in turn, down to the tables.';

create function catalog.sync_scout_views() returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_assets jsonb;
  v_inserted bigint;
  v_updated bigint;
  v_archived bigint;
  v_added bigint;
  v_removed bigint;
begin
  perform pg_advisory_xact_lock(odoo.aggregate_lock('catalog', 0, 'database', ''));
  select coalesce(jsonb_agg(jsonb_build_object(
    'fqdn', catalog.relation_fqdn(n.nspname, c.relname), 'origin', 'database', 'title', obj_description(c.oid, 'pg_class'),
    'type', case c.relkind when 'v' then 'view' when 'm' then 'materialized_view' else 'table' end,
    'metadata', jsonb_build_object('schema', n.nspname, 'name', c.relname, 'fields', (
      select coalesce(jsonb_object_agg(a.attname, jsonb_strip_nulls(jsonb_build_object(
        'type', format_type(a.atttypid, a.atttypmod), 'required', a.attnotnull, 'label', col_description(c.oid, a.attnum)))), '{}')
      from pg_catalog.pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped)))), '[]')
  into v_assets
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where (n.nspname = 'scout_gold' and c.relkind in ('r', 'p', 'v', 'm', 'f'))
    or c.oid in (select v.view_id from catalog.view_sources() v union select v.source_id from catalog.view_sources() v)
    or c.oid = to_regclass('odoo.webhook_events')
    or c.oid in (select to_regclass(format('%I.%I', t.table_schema, t.table_name)) from catalog.shadow_tables() t);

  select count(*) filter (where p.outcome = 'inserted'), count(*) filter (where p.outcome = 'updated')
  into v_inserted, v_updated from catalog.put_assets(v_assets) p;
  update catalog.assets a set archived_at = clock_timestamp(), updated_at = clock_timestamp()
  where a.origin = 'database' and a.archived_at is null and a.fqdn not in (select x ->> 'fqdn' from jsonb_array_elements(v_assets) x);
  get diagnostics v_archived = row_count;

  select e.added, e.removed into v_added, v_removed from catalog.put_edges(array['read_by'], null, (
    select coalesce(jsonb_agg(jsonb_build_object('from_fqdn', catalog.relation_fqdn(sn.nspname, s.relname),
      'to_fqdn', catalog.relation_fqdn(vn.nspname, v.relname), 'kind', 'read_by')), '[]')
    from catalog.view_sources() d
    join pg_catalog.pg_class v on v.oid = d.view_id join pg_catalog.pg_namespace vn on vn.oid = v.relnamespace
    join pg_catalog.pg_class s on s.oid = d.source_id join pg_catalog.pg_namespace sn on sn.oid = s.relnamespace)) e;
  return jsonb_build_object('inserted', v_inserted, 'updated', v_updated,
    'unchanged', jsonb_array_length(v_assets) - v_inserted - v_updated, 'archived', v_archived,
    'edges_added', v_added, 'edges_removed', v_removed);
end
$$;
comment on function catalog.sync_scout_views() is
  'Makes the catalog equal to this database: every table and view of scout_gold, the tables of the events and shadows, what views read. What is gone is archived; what is as it was is not written.';

revoke execute on function catalog.relation_fqdn(text, text) from public, anon, authenticated;
revoke execute on function catalog.shadow_tables() from public, anon, authenticated;
revoke execute on function catalog.view_sources() from public, anon, authenticated;
revoke execute on function catalog.sync_scout_views() from public, anon, authenticated;
grant execute on function catalog.sync_scout_views() to service_role;
