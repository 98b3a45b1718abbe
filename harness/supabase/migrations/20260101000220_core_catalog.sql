-- Schema catalog: what data there is (assets), where it comes from (lineage), what can be done with it (tools), who may.
--
-- An asset is named by its FQDN, system.db.model:
--   odoo.<db>.<model>          a model of Odoo                       odoo.odoo_core.account.move
--   event.<db>.<event type>    a kind of event that it sends         event.odoo_core.account.move.posted
--   scout.gold.<name>          what stands in the schema scout_gold  scout.gold.v_revenue_summary
--   supabase.<schema>.<name>   another table or view of this side    supabase.odoo.webhook_events
-- Any other system is free for catalog.register_asset. What <db> is, catalog.databases says.

create schema if not exists catalog;
comment on schema catalog is 'Assets by FQDN, their lineage, tools and permissions. Written by SQL functions; read with the permission catalog:read.';
revoke all on schema catalog from public, anon, authenticated;
grant usage on schema catalog to authenticated, service_role;

-- ------------------------------------------------------------------------------------------------------- names
create function catalog.is_fqdn(p_fqdn text) returns boolean
language sql immutable parallel safe set search_path = '' as $$
  select coalesce(p_fqdn ~ '^[a-z][a-z0-9_]*(\.[a-z0-9_]+){2,}$' and length(p_fqdn) <= 500, false)
$$;
comment on function catalog.is_fqdn(text) is 'Whether this is a name system.db.model: of a-z, 0-9 and _, three parts or more joined by dots, at most 500 characters.';

create function catalog.is_pattern(p_pattern text) returns boolean
language sql immutable parallel safe set search_path = '' as $$
  select coalesce(p_pattern = '*' or catalog.is_fqdn(p_pattern)
    or (p_pattern ~ '^[a-z][a-z0-9_]*(\.[a-z0-9_]+)*\.\*$' and length(p_pattern) <= 500), false)
$$;
comment on function catalog.is_pattern(text) is 'Whether this names assets: a FQDN, the first parts of one and .* for all below, or * for all.';

create function catalog.matches(p_fqdn text, p_pattern text) returns boolean
language sql immutable strict parallel safe set search_path = '' as $$
  select p_pattern = '*' or p_pattern = p_fqdn or (right(p_pattern, 2) = '.*' and starts_with(p_fqdn, left(p_pattern, -1)))
$$;
comment on function catalog.matches(text, text) is 'Whether the pattern names this asset. scout.gold.* names scout.gold.a, and neither scout.gold nor scout.golden.a.';

create function catalog.fold(p_name text) returns text
language sql immutable strict parallel safe set search_path = '' as $$
  select case when p_name ~ '^[a-z0-9_]+$' then p_name
    -- With a mark of what it was: else two names could become one.
    else regexp_replace(lower(p_name), '[^a-z0-9_]', '_', 'g') || '_' || left(md5(p_name), 8) end
$$;
comment on function catalog.fold(text) is 'The name as one part of a FQDN: as it is where it may, else in lower case, with _ for what may not, and 8 digits that tell it from others.';

-- ------------------------------------------------------------------------------------------------------ assets
create function catalog.search_vector(p_fqdn text, p_title text, p_metadata jsonb) returns tsvector
language sql immutable parallel safe set search_path = '' as $$
  select setweight(to_tsvector('pg_catalog.english', translate(p_fqdn, '._', '  ')), 'A')
    || setweight(to_tsvector('pg_catalog.english', coalesce(p_title, '')), 'B')
    || setweight(to_tsvector('pg_catalog.english', coalesce(p_metadata ->> 'description', '')), 'C')
    || setweight(to_tsvector('pg_catalog.english', coalesce((
      select string_agg(concat_ws(' ', translate(f.key, '._', '  '), f.value ->> 'label', f.value ->> 'help'), ' ')
      from jsonb_each(case when jsonb_typeof(p_metadata -> 'fields') = 'object' then p_metadata -> 'fields' else '{}' end) f), '')), 'D')
$$;
comment on function catalog.search_vector(text, text, jsonb) is 'What an asset is found by, in the order of weight: its FQDN, its title, its description, its fields.';

create table catalog.assets (
  id bigint generated always as identity primary key,
  fqdn text not null
    constraint assets_fqdn_form check (catalog.is_fqdn(fqdn)),
  type text not null
    constraint assets_type_form check (type ~ '^[a-z][a-z0-9_]*$' and length(type) <= 100),
  title text
    constraint assets_title_length check (length(title) <= 1000),
  metadata jsonb not null default '{}'
    constraint assets_metadata_object check (jsonb_typeof(metadata) = 'object'),
  origin text not null default 'registered'
    constraint assets_origin_known check (origin in ('odoo', 'events', 'database', 'registered')),
  instance_id bigint references odoo.instances (id),
  odoo_id bigint
    constraint assets_odoo_id_positive check (odoo_id > 0),
  registered_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp(),
  archived_at timestamptz,
  search tsvector generated always as (catalog.search_vector(fqdn, title, metadata)) stored,
  constraint assets_once unique (fqdn),
  constraint assets_of_an_instance check (origin not in ('odoo', 'events') or instance_id is not null),
  constraint assets_of_a_model check (origin <> 'odoo' or odoo_id is not null)
);
comment on table catalog.assets is 'Every set of data that has a name, one row each, for ever: what is gone is archived, and active again when it is back.';
comment on column catalog.assets.fqdn is 'system.db.model; see the head of this schema.';
comment on column catalog.assets.type is 'odoo_model, event_type, table, view, materialized_view; or what register_asset was told.';
comment on column catalog.assets.title is 'For people: the description of the model, the comment of the view.';
comment on column catalog.assets.metadata is 'What is known of it. description (text) and fields (an object by field name, each with label and help) are searched. Of a model: model, kind (model, transient, abstract), state (base, manual), fields.';
comment on column catalog.assets.origin is 'Who keeps it true: odoo (the sync of models), events (those that arrived), database (this one''s own catalogues), registered (whoever registered it).';
comment on column catalog.assets.instance_id is 'Which Odoo it belongs to; null: none.';
comment on column catalog.assets.odoo_id is 'Its id in ir.model.';
comment on column catalog.assets.updated_at is 'When it last changed. A sync that finds nothing new does not write.';
comment on column catalog.assets.archived_at is 'When it was seen to be gone; null: it is there.';
create index assets_search on catalog.assets using gin (search) where archived_at is null;
create index assets_odoo on catalog.assets (instance_id, odoo_id) where archived_at is null;

-- ----------------------------------------------------------------------------------------------------- lineage
create table catalog.lineage_edges (
  from_fqdn text not null references catalog.assets (fqdn) on update cascade on delete cascade,
  to_fqdn text not null references catalog.assets (fqdn) on update cascade on delete cascade,
  kind text not null
    constraint lineage_edges_kind_known
      check (kind in ('emits', 'stored_in', 'synced_to', 'verified_by', 'read_by', 'flows_to', 'refers_to')),
  details jsonb not null default '{}'
    constraint lineage_edges_details_object check (jsonb_typeof(details) = 'object'),
  first_seen timestamptz not null default clock_timestamp(),
  constraint lineage_edges_once primary key (from_fqdn, to_fqdn, kind)
);
comment on table catalog.lineage_edges is 'From where data comes to where it goes; both ends are assets that are there. What is no longer so is deleted.';
comment on column catalog.lineage_edges.kind is 'emits: model ▶ event type. stored_in: event type ▶ odoo.webhook_events. synced_to: model ▶ its shadow table. verified_by: odoo.webhook_events ▶ the shadow table of a model whose events it holds. read_by: table or view ▶ the view that reads it. flows_to: as a diagram shows it. refers_to: model ▶ model, by relational fields.';
comment on column catalog.lineage_edges.details is 'Of refers_to: fields, the names of the relational fields. Of flows_to: diagram, its FQDN.';
create index lineage_edges_upwards on catalog.lineage_edges (to_fqdn, kind);

create function catalog.cut_edges() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  delete from catalog.lineage_edges e where e.from_fqdn = new.fqdn;
  delete from catalog.lineage_edges e where e.to_fqdn = new.fqdn;
  return null;
end
$$;
comment on function catalog.cut_edges() is 'Trigger: what is archived is no end of an edge any more, whoever archived it.';

create trigger cut_edges after update of archived_at on catalog.assets
  for each row when (old.archived_at is null and new.archived_at is not null) execute function catalog.cut_edges();

-- ------------------------------------------------------------------------------------------ tools and permissions
create table catalog.tools (
  name text primary key
    constraint tools_name_form check (name ~ '^[a-z][a-z0-9_]*(\.[a-z0-9_]+)*$' and length(name) <= 200),
  description text not null
    constraint tools_description_form check (length(description) between 1 and 10000),
  input_schema jsonb not null
    constraint tools_input_schema_object
      check (jsonb_typeof(input_schema) = 'object' and coalesce(input_schema ->> 'type' = 'object', false)),
  output_schema jsonb not null default '{"type": "object"}'
    constraint tools_output_schema_object
      check (jsonb_typeof(output_schema) = 'object' and coalesce(jsonb_typeof(output_schema -> 'type') = 'string', false)),
  fqdn text references catalog.assets (fqdn) on update cascade,
  metadata jsonb not null default '{}'
    constraint tools_metadata_object check (jsonb_typeof(metadata) = 'object'),
  enabled boolean not null default true,
  registered_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp()
);
comment on table catalog.tools is 'What an agent may call. Written with catalog.register_tool, which may be called again.';
comment on column catalog.tools.name is 'Lower-case words with _, joined by dots: odoo.search_invoices.';
comment on column catalog.tools.description is 'What it does, for whom has to choose one.';
comment on column catalog.tools.input_schema is 'JSON Schema of the arguments; an object.';
comment on column catalog.tools.output_schema is 'JSON Schema of the answer.';
comment on column catalog.tools.fqdn is 'The asset that it works on; null: none, or several.';
comment on column catalog.tools.metadata is 'How it is reached: function and action of an Edge Function, or what else its caller needs.';
comment on column catalog.tools.enabled is 'False: kept, not shown.';

create table catalog.permissions (
  id bigint generated always as identity primary key,
  principal text not null
    constraint permissions_principal_form check (principal ~ '^[a-z][a-z0-9_]*:[^[:space:][:cntrl:]]+$' and length(principal) <= 300),
  operation text not null
    constraint permissions_operation_form check (operation = '*' or (operation ~ '^[a-z][a-z0-9_]*$' and length(operation) <= 100)),
  pattern text not null
    constraint permissions_pattern_form check (catalog.is_pattern(pattern)),
  granted_at timestamptz not null default clock_timestamp(),
  constraint permissions_once unique (principal, operation, pattern)
);
comment on table catalog.permissions is 'Who may do what with which assets. What is not granted here is denied; there is no way to forbid.';
comment on column catalog.permissions.principal is 'kind:name, such as user:<uuid>, role:finance, agent:scout, or claim:<permission of the token>.';
comment on column catalog.permissions.operation is 'read, write, execute or another word; *: any.';
comment on column catalog.permissions.pattern is 'A FQDN; or the first parts of one and .* for all below; or *.';

-- ------------------------------------------------------------------------------------------------------ access
do $access$
declare
  v_table text;
begin
  foreach v_table in array array['assets', 'lineage_edges', 'tools', 'permissions'] loop
    execute format('alter table catalog.%I enable row level security', v_table);
    execute format('revoke all on table catalog.%I from public, anon, authenticated', v_table);
    execute format('grant select on table catalog.%I to service_role', v_table);
  end loop;
  -- These two are for the integration engineer to write; everything else is kept true by functions.
  grant insert, update, delete on catalog.tools, catalog.permissions to service_role;
  grant select on catalog.assets, catalog.lineage_edges, catalog.tools to authenticated;
  execute (select string_agg(format('revoke execute on function %s from public, anon, authenticated', p.oid::regprocedure), ';')
    from pg_catalog.pg_proc p where p.pronamespace = 'catalog'::regnamespace);
end
$access$;
grant execute on function catalog.is_fqdn(text), catalog.is_pattern(text) to service_role;

create policy assets_read on catalog.assets for select to authenticated
  using (archived_at is null and (select access.permits('catalog:read')));
create policy lineage_edges_read on catalog.lineage_edges for select to authenticated
  using ((select access.permits('catalog:read')));
create policy tools_read on catalog.tools for select to authenticated
  using (enabled and (select access.permits('catalog:read')));
