-- The catalog's own actions: register, search, follow, ask. None of them needs Odoo. Each answers with a JSON object.

create function catalog.put_assets(p_assets jsonb) returns table (fqdn text, outcome text)
language sql volatile security definer set search_path = '' as $$
  insert into catalog.assets as a (fqdn, type, title, metadata, origin, instance_id, odoo_id)
  select distinct on (n.fqdn) n.fqdn, n.type, left(n.title, 1000), coalesce(n.metadata, '{}'), n.origin, n.instance_id, n.odoo_id
  from jsonb_to_recordset(p_assets) as n
    (fqdn text, type text, title text, metadata jsonb, origin text, instance_id bigint, odoo_id bigint)
  order by n.fqdn, n.odoo_id desc
  on conflict on constraint assets_once do update
    set type = excluded.type, title = excluded.title, metadata = excluded.metadata, origin = excluded.origin,
        instance_id = excluded.instance_id, odoo_id = excluded.odoo_id, archived_at = null, updated_at = excluded.updated_at
    where (a.type, a.title, a.metadata, a.origin, a.instance_id, a.odoo_id, a.archived_at)
      is distinct from (excluded.type, excluded.title, excluded.metadata, excluded.origin, excluded.instance_id, excluded.odoo_id, null)
  -- 0: the row is new. Of one that was updated it is the transaction that locked it.
  returning a.fqdn, case when a.xmax = 0 then 'inserted' else 'updated' end
$$;
comment on function catalog.put_assets(jsonb) is
  'Makes these assets be there and active, in one statement; answers inserted or updated for each that was written. What is as it was is not written.';

create function catalog.put_edges(p_kinds text[], p_instance_id bigint, p_edges jsonb, out added bigint, out removed bigint)
language plpgsql volatile security definer set search_path = '' as $$
begin
  delete from catalog.lineage_edges e
  using catalog.assets f
  where f.fqdn = e.from_fqdn and e.kind = any (p_kinds) and f.instance_id is not distinct from p_instance_id
    and (e.from_fqdn, e.to_fqdn, e.kind) not in (
      select n.from_fqdn, n.to_fqdn, n.kind from jsonb_to_recordset(p_edges) as n (from_fqdn text, to_fqdn text, kind text));
  get diagnostics removed = row_count;
  insert into catalog.lineage_edges as e (from_fqdn, to_fqdn, kind, details)
  select n.from_fqdn, n.to_fqdn, n.kind, coalesce(n.details, '{}')
  from jsonb_to_recordset(p_edges) as n (from_fqdn text, to_fqdn text, kind text, details jsonb)
  join catalog.assets f on f.fqdn = n.from_fqdn and f.archived_at is null
  join catalog.assets t on t.fqdn = n.to_fqdn and t.archived_at is null
  order by n.from_fqdn, n.to_fqdn, n.kind
  on conflict on constraint lineage_edges_once do update set details = excluded.details
    where e.details is distinct from excluded.details;
  get diagnostics added = row_count;
end
$$;
comment on function catalog.put_edges(text[], bigint, jsonb) is
  'Makes these the edges of these kinds that begin at assets of an instance (null: at those of none). Only between assets that are there; how many were written and how many deleted.';

create function catalog.register_asset(
  p_fqdn text, p_type text, p_title text default null, p_metadata jsonb default '{}', out verdict text, out answer jsonb
)
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_outcome text;
begin
  if not catalog.is_fqdn(p_fqdn) then
    verdict := 'invalid_fqdn';
  elsif coalesce(p_type, '') !~ '^[a-z][a-z0-9_]{0,99}$' or coalesce(jsonb_typeof(p_metadata), 'object') <> 'object'
    or length(p_title) > 1000
  then
    verdict := 'invalid_request';
  elsif split_part(p_fqdn, '.', 1) in ('odoo', 'event', 'scout', 'supabase') then
    verdict := 'asset_reserved';
  else
    select p.outcome into v_outcome from catalog.put_assets(jsonb_build_array(jsonb_build_object(
      'fqdn', p_fqdn, 'type', p_type, 'title', p_title, 'metadata', p_metadata, 'origin', 'registered'))) p;
    verdict := 'accepted';
    answer := jsonb_build_object('fqdn', p_fqdn, 'outcome', coalesce(v_outcome, 'unchanged'));
  end if;
end
$$;
comment on function catalog.register_asset(text, text, text, jsonb) is
  'Registers an asset of a system that no sync keeps, or brings it up to date. verdict: accepted, invalid_fqdn, invalid_request, asset_reserved (Odoo''s models, events and what stands in this database register themselves).';

create function catalog.register_tool(
  p_name text, p_description text, p_input_schema jsonb, p_output_schema jsonb default '{"type": "object"}', p_fqdn text default null,
  p_metadata jsonb default '{}', p_enabled boolean default true
) returns text
language sql volatile security definer set search_path = '' as $$
  with written as (
    insert into catalog.tools as t (name, description, input_schema, output_schema, fqdn, metadata, enabled)
    values (p_name, p_description, p_input_schema, p_output_schema, p_fqdn, p_metadata, p_enabled)
    on conflict (name) do update
      set description = excluded.description, input_schema = excluded.input_schema, output_schema = excluded.output_schema,
          fqdn = excluded.fqdn, metadata = excluded.metadata, enabled = excluded.enabled, updated_at = excluded.updated_at
      where (t.description, t.input_schema, t.output_schema, t.fqdn, t.metadata, t.enabled) is distinct from
        (excluded.description, excluded.input_schema, excluded.output_schema, excluded.fqdn, excluded.metadata, excluded.enabled)
    returning case when t.xmax = 0 then 'inserted' else 'updated' end as outcome
  )
  select coalesce((select w.outcome from written w), 'unchanged')
$$;
comment on function catalog.register_tool(text, text, jsonb, jsonb, text, jsonb, boolean) is
  'Registers a tool, or brings it up to date: inserted, updated or unchanged. Raises 23514 for a schema that is none, 23503 for an asset that is not in the catalog.';

create table catalog.glossary (
  term text primary key
    constraint glossary_term_form check (term = lower(term) and length(term) between 1 and 100),
  means text not null
    constraint glossary_means_form check (length(means) between 1 and 500),
  term_words tsquery not null generated always as (websearch_to_tsquery('pg_catalog.english', term)) stored
    constraint glossary_term_says_something check (numnode(term_words) > 0),
  means_words tsquery not null generated always as
    (websearch_to_tsquery('pg_catalog.english', term) || websearch_to_tsquery('pg_catalog.english', translate(lower(means), '._', '  '))) stored
);
comment on table catalog.glossary is 'Words of the people who ask, and what the data calls the same: whoever searches for the one finds the other, too.';
comment on column catalog.glossary.means is 'As in a web search: "account move", or several with "or" between them.';
alter table catalog.glossary enable row level security;
revoke all on catalog.glossary from public, anon, authenticated;
grant select, insert, update, delete on catalog.glossary to service_role;

create function catalog.words_of(p_query text) returns tsquery
language sql stable strict security definer set search_path = '' as $$
  select ts_rewrite(websearch_to_tsquery('pg_catalog.english', translate(lower(p_query), '._', '  ')),
    'select g.term_words, g.means_words from catalog.glossary g')
$$;
comment on function catalog.words_of(text) is 'What a query in words asks for, with what the glossary knows under other names.';

create function catalog.search_assets(p_query text, p_type text default null, p_within text default '*', p_limit integer default 20) returns jsonb
language sql stable security definer set search_path = '' as $$
  with asked as (
    select translate(lower(trim(p_query)), '._', '  ') as name,
      catalog.words_of(p_query) as words
  ), found as (
    select a.fqdn, a.type, a.title, a.instance_id,
      -- Who asks for a name wants what bears it, before all that speaks of it.
      (case when right(' ' || translate(a.fqdn, '._', '  '), length(q.name) + 1) = ' ' || q.name or lower(a.title) = q.name then 1 else 0 end)
        + ts_rank('{0.05, 0.2, 0.6, 1.0}', a.search, q.words, 1) as rank
    from catalog.assets a, asked q
    where a.archived_at is null and a.search @@ q.words
      and (p_type is null or a.type = p_type) and catalog.matches(a.fqdn, p_within)
  )
  select jsonb_build_object('total', (select count(*) from found), 'assets', coalesce((
    select jsonb_agg(jsonb_build_object('fqdn', f.fqdn, 'type', f.type, 'title', f.title, 'rank', round(f.rank::numeric, 4))
      order by f.rank desc, f.fqdn)
    from (select * from found order by rank desc, fqdn limit p_limit) f), '[]'))
$$;
comment on function catalog.search_assets(text, text, text, integer) is
  'Active assets by words (as in a web search: "a phrase", or, -not), best first: by name, title, description, fields. total: how many there are in all.';

create function catalog.get_tools(p_name text default null, p_fqdn text default null) returns jsonb
language sql stable security definer set search_path = '' as $$
  select jsonb_build_object('tools', coalesce(jsonb_agg(jsonb_build_object('name', t.name, 'description', t.description,
    'input_schema', t.input_schema, 'output_schema', t.output_schema, 'fqdn', t.fqdn, 'metadata', t.metadata) order by t.name), '[]'))
  from catalog.tools t
  where t.enabled and (p_name is null or t.name = p_name) and (p_fqdn is null or t.fqdn = p_fqdn)
$$;
comment on function catalog.get_tools(text, text) is 'The enabled tools with their schemas: all, that of a name, or those of an asset.';

create function catalog.get_lineage(p_fqdn text, p_direction text default 'both', p_depth integer default 5, p_kinds text[] default null)
returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  -- A relation is no flow of data, and within a few steps leads from any model to every other one: only when asked for.
  v_kinds text[] := coalesce(p_kinds, array['emits', 'stored_in', 'synced_to', 'verified_by', 'read_by', 'flows_to']);
  v_way text;
  v_seen text[];
  v_front text[];
  v_next text[];
  v_nodes jsonb := '[]';
  v_edges jsonb := '[]';
  v_step jsonb;
  v_more boolean := false;
begin
  if not exists (select from catalog.assets a where a.fqdn = p_fqdn and a.archived_at is null) then
    return null;
  end if;
  -- In breadth, each asset once: a circle ends where it began, and no asset is met again on another path.
  foreach v_way in array case p_direction when 'both' then array['up', 'down'] else array[p_direction] end loop
    v_seen := array[p_fqdn];
    v_front := v_seen;
    for v_distance in 1..p_depth + 1 loop
      select coalesce(jsonb_agg(jsonb_build_object('from', e.from_fqdn, 'to', e.to_fqdn, 'kind', e.kind, 'details', e.details)
          order by e.from_fqdn, e.to_fqdn, e.kind), '[]'),
        coalesce(array_agg(distinct x.fqdn) filter (where not x.fqdn = any (v_seen)), '{}')
      into v_step, v_next
      from catalog.lineage_edges e
      cross join lateral (select case v_way when 'up' then e.from_fqdn else e.to_fqdn end as fqdn) x
      where e.kind = any (v_kinds)
        and ((v_way = 'up' and e.to_fqdn = any (v_front)) or (v_way = 'down' and e.from_fqdn = any (v_front)));
      if v_distance > p_depth then
        v_more := v_more or v_next <> '{}';
        exit;
      end if;
      v_edges := v_edges || v_step;
      exit when v_next = '{}';
      v_nodes := v_nodes || (select jsonb_agg(jsonb_build_object('fqdn', a.fqdn, 'type', a.type, 'title', a.title, 'direction', v_way,
          'distance', v_distance) order by a.fqdn)
        from catalog.assets a where a.fqdn = any (v_next));
      v_seen := v_seen || v_next;
      v_front := v_next;
    end loop;
  end loop;
  return jsonb_build_object('fqdn', p_fqdn, 'assets', v_nodes, 'edges', v_edges, 'more', v_more);
end
$$;
comment on function catalog.get_lineage(text, text, integer, text[]) is
  'What an active asset comes from (up) and what comes of it (down), up to p_depth steps away, by the kinds of edges given (all but refers_to). more: there is something beyond. Null if there is no such asset.';

create function catalog.principals_of(p_claims jsonb) returns text[]
language sql immutable strict parallel safe set search_path = '' as $$
  select array_remove(array['user:' || (p_claims ->> 'sub'), 'role:' || (p_claims ->> 'role')], null)
    || array(select 'claim:' || c from jsonb_array_elements_text(
      case when jsonb_typeof(p_claims -> 'app_metadata' -> 'ipai_permissions') = 'array'
        then p_claims -> 'app_metadata' -> 'ipai_permissions' else '[]' end) c)
$$;
comment on function catalog.principals_of(jsonb) is 'Who the claims of a verified token speak for: user:<sub>, role:<role>, and claim:<permission> for each of app_metadata.ipai_permissions.';

create function catalog.check_permission(p_principals text[], p_operation text, p_fqdn text) returns jsonb
language sql stable security definer set search_path = '' as $$
  with granted as (
    select g.principal, g.operation, g.pattern from catalog.permissions g
    where g.principal = any (p_principals) and g.operation in ('*', p_operation) and catalog.matches(p_fqdn, g.pattern)
    order by length(g.pattern) desc, g.id limit 1
  ), asset as (
    select a.archived_at from catalog.assets a where a.fqdn = p_fqdn
  )
  select jsonb_build_object(
    'allowed', x.reason = 'granted',
    'reason', x.reason,
    'granted_by', case when x.reason = 'granted' then (select to_jsonb(g) from granted g) end)
  from (select case
    when not exists (select from asset) then 'unknown_asset'
    when (select s.archived_at from asset s) is not null then 'archived_asset'
    when exists (select from granted) then 'granted'
    else 'not_granted' end as reason) x
$$;
comment on function catalog.check_permission(text[], text, text) is
  'Whether any of these principals may do this with the asset: only what catalog.permissions grants, and only with an asset that is there. reason: granted (granted_by says by which row), not_granted, unknown_asset, archived_asset.';

do $access$
begin
  execute (select string_agg(format('revoke execute on function %s from public, anon, authenticated', p.oid::regprocedure), ';')
    from pg_catalog.pg_proc p where p.pronamespace = 'catalog'::regnamespace);
end
$access$;
grant execute on function catalog.register_asset(text, text, text, jsonb) to service_role;
grant execute on function catalog.register_tool(text, text, jsonb, jsonb, text, jsonb, boolean) to service_role;
grant execute on function catalog.search_assets(text, text, text, integer) to service_role;
grant execute on function catalog.get_tools(text, text) to service_role;
grant execute on function catalog.get_lineage(text, text, integer, text[]) to service_role;
grant execute on function catalog.principals_of(jsonb) to service_role;
grant execute on function catalog.check_permission(text[], text, text) to service_role;
