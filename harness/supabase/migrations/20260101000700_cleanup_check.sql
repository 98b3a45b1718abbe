-- The last layer: whatever the layers below left open is closed, or named, and then nothing is applied.

create function ops.our_schemas() returns text[]
language sql immutable parallel safe set search_path = '' as $$
  select array['access', 'odoo', 'odoo_seed', 'erp', 'catalog', 'scout_gold', 'ops']
$$;
comment on function ops.our_schemas() is 'The schemas that the migrations of this project make.';

create function ops.what_stands_open() returns table (object text, problem text)
language sql stable security definer set search_path = '' as $$
  with ours as (
    select n.oid, n.nspname from pg_catalog.pg_namespace n where n.nspname = any (ops.our_schemas())
  ), relations as (
    select c.oid, c.oid::regclass::text as object, c.relkind, c.relrowsecurity, c.reloptions
    from pg_catalog.pg_class c join ours on ours.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
  ), routines as (
    select p.oid, p.oid::regprocedure::text as object, p.proconfig
    from pg_catalog.pg_proc p join ours on ours.oid = p.pronamespace
    where not exists (select from pg_catalog.pg_depend d
      where d.classid = 'pg_catalog.pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')
  )
  select r.object, 'row-level security is off' from relations r where r.relkind in ('r', 'p') and not r.relrowsecurity
  union all
  select r.object, 'the view asks with its owner''s rights: it is not security_invoker' from relations r
  where r.relkind = 'v' and not coalesce(r.reloptions @> array['security_invoker=true'], false)
  union all
  select f.object, 'the function does not pin its search_path' from routines f
  where not exists (select from unnest(f.proconfig) s where starts_with(s, 'search_path='))
  union all
  select ours.nspname, 'anon may use the schema' from ours where has_schema_privilege('anon', ours.oid, 'usage, create')
  union all
  select r.object, 'anon holds a right to it' from relations r
  where case when r.relkind = 'S' then has_sequence_privilege('anon', r.oid, 'usage, select, update')
    else has_table_privilege('anon', r.oid, 'select, insert, update, delete, truncate, references, trigger')
      or has_any_column_privilege('anon', r.oid, 'select, insert, update, references') end
  union all
  select f.object, 'anon may execute it' from routines f where has_function_privilege('anon', f.oid, 'execute')
  order by 1, 2
$$;
comment on function ops.what_stands_open() is
  'What of our schemas would let somebody in who should not be, with the reason. Empty, unless something was changed by hand.';
revoke execute on function ops.our_schemas(), ops.what_stands_open() from public, anon, authenticated;
grant execute on function ops.our_schemas(), ops.what_stands_open() to service_role;

do $cleanup$
declare
  v_open record;
  v_found text;
begin
  -- Only what is held is taken away: a right that nobody has is not written down as such.
  for v_open in select o.object, o.problem from ops.what_stands_open() o loop
    case v_open.problem
      when 'anon may use the schema' then
        execute format('revoke all on schema %I from public, anon', v_open.object);
      when 'anon holds a right to it' then
        execute format('revoke all on %s from public, anon', v_open.object);
      when 'anon may execute it' then
        execute format('revoke all on routine %s from public, anon', v_open.object);
      else
        continue;
    end case;
    raise warning '%: %, and no longer does', v_open.object, v_open.problem;
  end loop;
  select string_agg(format('%s: %s', o.object, o.problem), '; ') into v_found from ops.what_stands_open() o;
  if v_found is not null then
    raise exception 'this must not go in: %', v_found using hint = 'Correct the migration that made it.';
  end if;
end
$cleanup$;
