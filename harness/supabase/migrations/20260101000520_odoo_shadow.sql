-- The finance shadow: what should be in Odoo (the seed), what is (the shadow), what was (tombstones), and how they differ.

create table odoo_seed.projects (
  id bigint generated always as identity primary key,
  instance_id bigint not null references odoo.instances (id),
  external_ref text not null
    constraint projects_external_ref_form check (length(external_ref) between 1 and 500),
  name text,
  details jsonb not null default '{}'
    constraint projects_details_object check (jsonb_typeof(details) = 'object'),
  created_at timestamptz not null default now(),
  constraint projects_once unique (instance_id, external_ref)
);
comment on table odoo_seed.projects is 'Which projects should be in Odoo.';
comment on column odoo_seed.projects.external_ref is 'By which the project in Odoo is recognised: its x_external_ref, or its XML id.';
comment on column odoo_seed.projects.details is 'Free for who plans.';

create table odoo_seed.tasks (
  id bigint generated always as identity primary key,
  instance_id bigint not null references odoo.instances (id),
  external_ref text not null
    constraint tasks_external_ref_form check (length(external_ref) between 1 and 500),
  project_external_ref text,
  name text,
  details jsonb not null default '{}'
    constraint tasks_details_object check (jsonb_typeof(details) = 'object'),
  created_at timestamptz not null default now(),
  constraint tasks_once unique (instance_id, external_ref)
);
comment on table odoo_seed.tasks is 'Which tasks should be in Odoo.';
comment on column odoo_seed.tasks.external_ref is 'By which the task in Odoo is recognised: its x_external_ref, or its XML id.';
comment on column odoo_seed.tasks.details is 'Free for who plans.';

create table odoo_seed.shadow_projects (
  instance_id bigint not null references odoo.instances (id),
  odoo_id bigint not null
    constraint shadow_projects_odoo_id_positive check (odoo_id > 0),
  external_ref text,
  name text,
  active boolean,
  synced_at timestamptz not null default clock_timestamp(),
  previous_name text,
  name_changed_run bigint,
  name_changed_at timestamptz,
  raw jsonb not null,
  primary key (instance_id, odoo_id)
);
comment on table odoo_seed.shadow_projects is 'Every project.project of Odoo, archived ones included, as it was last read.';
comment on column odoo_seed.shadow_projects.external_ref is 'x_external_ref where Odoo has that field, else the XML id. Not unique: a copied project brings its reference along.';
comment on column odoo_seed.shadow_projects.synced_at is 'When what stands here came from Odoo. A run that finds nothing changed writes nothing: how fresh the whole is, odoo_seed.sync_runs says.';
comment on column odoo_seed.shadow_projects.previous_name is 'Its name at the end of the sync cycle before the one in which it last changed.';
comment on column odoo_seed.shadow_projects.raw is 'The fields that were read, by their names in Odoo; relations as ids.';
create index shadow_projects_reference on odoo_seed.shadow_projects (instance_id, external_ref, odoo_id);

create table odoo_seed.shadow_tasks (
  instance_id bigint not null references odoo.instances (id),
  odoo_id bigint not null
    constraint shadow_tasks_odoo_id_positive check (odoo_id > 0),
  external_ref text,
  project_odoo_id bigint,
  name text,
  active boolean,
  synced_at timestamptz not null default clock_timestamp(),
  previous_name text,
  name_changed_run bigint,
  name_changed_at timestamptz,
  raw jsonb not null,
  primary key (instance_id, odoo_id)
);
comment on table odoo_seed.shadow_tasks is 'Every project.task of Odoo that the sync''s user sees, archived ones included, as it was last read.';
comment on column odoo_seed.shadow_tasks.external_ref is 'x_external_ref where Odoo has that field, else the XML id. Not unique.';
comment on column odoo_seed.shadow_tasks.project_odoo_id is 'Null: a task without a project.';
comment on column odoo_seed.shadow_tasks.synced_at is 'When what stands here came from Odoo; see shadow_projects.';
comment on column odoo_seed.shadow_tasks.previous_name is 'Its name at the end of the sync cycle before the one in which it last changed.';
comment on column odoo_seed.shadow_tasks.raw is 'The fields that were read, by their names in Odoo; relations as ids.';
create index shadow_tasks_reference on odoo_seed.shadow_tasks (instance_id, external_ref, odoo_id);
create index shadow_tasks_project on odoo_seed.shadow_tasks (instance_id, project_odoo_id);

create table odoo_seed.tombstones (
  instance_id bigint not null references odoo.instances (id),
  entity text not null,
  odoo_id bigint not null,
  external_ref text,
  name text,
  run_id bigint not null,
  deleted_at timestamptz not null default clock_timestamp(),
  raw jsonb not null,
  primary key (instance_id, entity, odoo_id)
);
comment on table odoo_seed.tombstones is 'What was deleted in Odoo (or is hidden from the sync''s user now): as it stood in the shadow. What comes back loses its tombstone.';
comment on column odoo_seed.tombstones.deleted_at is 'When the sync saw that it is not there any more.';

-- ------------------------------------------------------------------------------------------------------- storing
create function odoo_seed.store_rows(p_run odoo_seed.sync_runs, p_entity text, p_rows jsonb) returns table (outcome text)
language plpgsql volatile security definer set search_path = '' as $$
#variable_conflict use_column
declare
  -- The cycle that the next name is compared with.
  v_completed bigint := coalesce((select max(r.id) from odoo_seed.sync_runs r
    where r.instance_id = p_run.instance_id and r.sync = 'finance' and r.status in ('success', 'partial')), 0);
begin
  if p_entity = 'ir.module.module' then
    return query select m.outcome from odoo.store_modules(p_run.instance_id, p_rows) m;
    return;
  elsif p_entity = 'ir.model' then
    return query select m.outcome from catalog.store_models(p_run.instance_id, p_rows) m;
    return;
  elsif p_entity = 'ir.attachment' then
    return query select d.outcome from erp.store_documents(p_run.instance_id, p_rows) d;
    return;
  end if;

  delete from odoo_seed.tombstones t
  using jsonb_to_recordset(p_rows) as r (raw jsonb)
  where t.instance_id = p_run.instance_id and t.entity = p_entity and t.odoo_id = (r.raw ->> 'id')::bigint;

  if p_entity = 'project.project' then
    return query
    insert into odoo_seed.shadow_projects as s (instance_id, odoo_id, external_ref, name, active, raw)
    select distinct on (1, 2)
      p_run.instance_id, (r.raw ->> 'id')::bigint, nullif(r.external_ref, ''), r.raw ->> 'name', (r.raw ->> 'active')::boolean, r.raw
    from jsonb_to_recordset(p_rows) as r (external_ref text, raw jsonb)
    on conflict (instance_id, odoo_id) do update
      set external_ref = excluded.external_ref, name = excluded.name, active = excluded.active, raw = excluded.raw,
          synced_at = excluded.synced_at,
          previous_name = case
            when s.name is distinct from excluded.name and coalesce(s.name_changed_run, 0) <= v_completed then s.name
            else s.previous_name end,
          name_changed_run = case when s.name is distinct from excluded.name then p_run.id else s.name_changed_run end,
          name_changed_at = case when s.name is distinct from excluded.name then excluded.synced_at else s.name_changed_at end
      where s.external_ref is distinct from excluded.external_ref or s.raw is distinct from excluded.raw
    -- 0: the row is new. Of one that was updated it is the transaction that locked it.
    returning case when s.xmax = 0 then 'inserted' else 'updated' end;
  else
    return query
    insert into odoo_seed.shadow_tasks as s (instance_id, odoo_id, external_ref, project_odoo_id, name, active, raw)
    select distinct on (1, 2)
      p_run.instance_id, (r.raw ->> 'id')::bigint, nullif(r.external_ref, ''), (r.raw ->> 'project_id')::bigint, r.raw ->> 'name',
      (r.raw ->> 'active')::boolean, r.raw
    from jsonb_to_recordset(p_rows) as r (external_ref text, raw jsonb)
    on conflict (instance_id, odoo_id) do update
      set external_ref = excluded.external_ref, project_odoo_id = excluded.project_odoo_id, name = excluded.name,
          active = excluded.active, raw = excluded.raw, synced_at = excluded.synced_at,
          previous_name = case
            when s.name is distinct from excluded.name and coalesce(s.name_changed_run, 0) <= v_completed then s.name
            else s.previous_name end,
          name_changed_run = case when s.name is distinct from excluded.name then p_run.id else s.name_changed_run end,
          name_changed_at = case when s.name is distinct from excluded.name then excluded.synced_at else s.name_changed_at end
      where s.external_ref is distinct from excluded.external_ref or s.raw is distinct from excluded.raw
    returning case when s.xmax = 0 then 'inserted' else 'updated' end;
  end if;
end
$$;
comment on function odoo_seed.store_rows(odoo_seed.sync_runs, text, jsonb) is
  'Stores a page of records in one statement; answers inserted or updated for each that was written. What is as it was is not written.';

create function odoo_seed.remove_rows(p_run odoo_seed.sync_runs, p_entity text, p_after bigint, p_upto bigint, p_keep int8multirange)
returns bigint
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_count bigint;
begin
  if p_entity = 'ir.module.module' then
    return odoo.remove_modules(p_run.instance_id, p_after, p_upto, p_keep);
  elsif p_entity = 'ir.model' then
    return catalog.archive_models(p_run.instance_id, p_after, p_upto, p_keep);
  elsif p_entity = 'ir.attachment' then
    return erp.remove_documents(p_run.instance_id, p_after, p_upto, p_keep);
  elsif p_entity = 'project.project' then
    with gone as (
      delete from odoo_seed.shadow_projects s
      where s.instance_id = p_run.instance_id and s.odoo_id > p_after and (p_upto is null or s.odoo_id <= p_upto) and not s.odoo_id <@ p_keep
      returning s.odoo_id, s.external_ref, s.name, s.raw
    )
    insert into odoo_seed.tombstones (instance_id, entity, odoo_id, external_ref, name, run_id, raw)
    select p_run.instance_id, p_entity, g.odoo_id, g.external_ref, g.name, p_run.id, g.raw from gone g;
  else
    with gone as (
      delete from odoo_seed.shadow_tasks s
      where s.instance_id = p_run.instance_id and s.odoo_id > p_after and (p_upto is null or s.odoo_id <= p_upto) and not s.odoo_id <@ p_keep
      returning s.odoo_id, s.external_ref, s.name, s.raw
    )
    insert into odoo_seed.tombstones (instance_id, entity, odoo_id, external_ref, name, run_id, raw)
    select p_run.instance_id, p_entity, g.odoo_id, g.external_ref, g.name, p_run.id, g.raw from gone g;
  end if;
  get diagnostics v_count = row_count;
  return v_count;
end
$$;
comment on function odoo_seed.remove_rows(odoo_seed.sync_runs, text, bigint, bigint, int8multirange) is
  'Removes from the shadow, leaving tombstones, what has an id after p_after, up to p_upto (null: all above), and is not in p_keep; how many.';

create function odoo_seed.unknown_ids(p_run odoo_seed.sync_runs, p_entity text, p_ids int8multirange) returns setof bigint
language sql stable security definer set search_path = '' as $$
  select i.id
  from unnest(p_ids) as g (span), generate_series(lower(g.span), upper(g.span) - 1) as i (id)
  where not exists (select from odoo_seed.shadow_projects s
      where p_entity = 'project.project' and s.instance_id = p_run.instance_id and s.odoo_id = i.id)
    and not exists (select from odoo_seed.shadow_tasks s
      where p_entity = 'project.task' and s.instance_id = p_run.instance_id and s.odoo_id = i.id)
    and not exists (select from catalog.assets a
      where p_entity = 'ir.model' and a.instance_id = p_run.instance_id and a.odoo_id = i.id and a.archived_at is null)
    and not exists (select from erp.documents d join erp.document_objects o on o.path = d.path and o.status = 'stored'
      where p_entity = 'ir.attachment' and d.instance_id = p_run.instance_id and d.odoo_id = i.id and d.gone_at is null)
$$;
comment on function odoo_seed.unknown_ids(odoo_seed.sync_runs, text, int8multirange) is
  'Which of these ids the shadow (of models: the catalog) has not: committed late, or shown to the sync''s user only now. Of documents, also those whose content is missing.';

-- --------------------------------------------------------------------------------------------------------- drift
create view odoo_seed.v_cycles with (security_invoker = true) as
  select i.id as instance_id, i.name as instance,
    coalesce((select r.id from odoo_seed.sync_runs r
      where r.instance_id = i.id and r.sync = 'finance' and r.status in ('success', 'partial')
      order by r.id desc offset 1 limit 1), 0) as previous_cycle
  from odoo.instances i;
comment on view odoo_seed.v_cycles is 'Per instance, the run that ended the sync cycle before the latest one; 0 if there is none.';

-- Of several records with one reference, the oldest is the one that the reference means; the others are copies.
create view odoo_seed.v_shadow with (security_invoker = true) as
  select 'project'::text as entity, s.instance_id, s.odoo_id, s.external_ref, s.name, s.active, s.synced_at, s.previous_name,
    s.name_changed_run, s.name_changed_at,
    case when s.external_ref is not null then min(s.odoo_id) over (partition by s.instance_id, s.external_ref) end as reference_odoo_id
  from odoo_seed.shadow_projects s
  union all
  select 'task', s.instance_id, s.odoo_id, s.external_ref, s.name, s.active, s.synced_at, s.previous_name,
    s.name_changed_run, s.name_changed_at,
    case when s.external_ref is not null then min(s.odoo_id) over (partition by s.instance_id, s.external_ref) end
  from odoo_seed.shadow_tasks s;
comment on view odoo_seed.v_shadow is 'Projects and tasks of the shadow, each with the record that its reference means.';

create view odoo_seed.v_seed with (security_invoker = true) as
  select 'project'::text as entity, p.id as seed_id, p.instance_id, p.external_ref, p.name from odoo_seed.projects p
  union all
  select 'task', t.id, t.instance_id, t.external_ref, t.name from odoo_seed.tasks t;
comment on view odoo_seed.v_seed is 'Projects and tasks that should be in Odoo.';

create view odoo_seed.v_missing_in_odoo with (security_invoker = true) as
  select c.instance, d.entity, d.external_ref, d.name, d.seed_id, d.instance_id
  from odoo_seed.v_seed d
  join odoo_seed.v_cycles c on c.instance_id = d.instance_id
  where (d.entity = 'project' and not exists (select from odoo_seed.shadow_projects s
      where s.instance_id = d.instance_id and s.external_ref = d.external_ref))
    or (d.entity = 'task' and not exists (select from odoo_seed.shadow_tasks s
      where s.instance_id = d.instance_id and s.external_ref = d.external_ref));
comment on view odoo_seed.v_missing_in_odoo is 'In the seed, not in Odoo. An archived record is in Odoo.';

create view odoo_seed.v_orphan_in_odoo with (security_invoker = true) as
  select c.instance, s.entity, s.odoo_id, s.external_ref, s.name, s.active,
    case when s.odoo_id <> s.reference_odoo_id then s.reference_odoo_id end as duplicate_of, s.instance_id
  from odoo_seed.v_shadow s
  join odoo_seed.v_cycles c on c.instance_id = s.instance_id
  left join odoo_seed.v_seed d on d.entity = s.entity and d.instance_id = s.instance_id and d.external_ref = s.external_ref
  where d.seed_id is null or s.odoo_id <> s.reference_odoo_id;
comment on view odoo_seed.v_orphan_in_odoo is 'In Odoo, not in the seed: without a reference, with an unknown one, or a copy that brought along the reference of another (duplicate_of).';

create view odoo_seed.v_name_drift with (security_invoker = true) as
  select c.instance, s.entity, s.odoo_id, s.external_ref, d.name as seed_name, s.name, s.previous_name, x.differs_from_seed, x.renamed,
    case when x.renamed then s.name_changed_at end as renamed_seen_at, d.seed_id, s.instance_id
  from odoo_seed.v_shadow s
  join odoo_seed.v_cycles c on c.instance_id = s.instance_id
  left join odoo_seed.v_seed d on d.entity = s.entity and d.instance_id = s.instance_id and d.external_ref = s.external_ref
    and s.odoo_id = s.reference_odoo_id
  cross join lateral (select
    d.seed_id is not null and d.name is distinct from s.name as differs_from_seed,
    coalesce(s.name_changed_run > c.previous_cycle, false) and s.previous_name is distinct from s.name as renamed) x
  where x.differs_from_seed or x.renamed;
comment on view odoo_seed.v_name_drift is 'Named otherwise than in the seed (differs_from_seed), or than at the end of the sync cycle before the latest one (renamed). No name at all is a name, too.';

-- -------------------------------------------------------------------------------------------------------- access
do $access$
declare
  v_name text;
begin
  foreach v_name in array array['projects', 'tasks', 'shadow_projects', 'shadow_tasks', 'tombstones'] loop
    execute format('alter table odoo_seed.%I enable row level security', v_name);
    execute format('revoke all on table odoo_seed.%I from public, anon, authenticated', v_name);
    execute format('grant select on table odoo_seed.%I to service_role', v_name);
  end loop;
  -- The seed is for the planner to write; everything else comes from Odoo.
  grant insert, update, delete on odoo_seed.projects, odoo_seed.tasks to service_role;
  foreach v_name in array array['v_cycles', 'v_shadow', 'v_seed', 'v_missing_in_odoo', 'v_orphan_in_odoo', 'v_name_drift'] loop
    execute format('revoke all on table odoo_seed.%I from public, anon, authenticated', v_name);
    execute format('grant select on table odoo_seed.%I to service_role', v_name);
  end loop;
end
$access$;
revoke execute on function
  odoo_seed.store_rows(odoo_seed.sync_runs, text, jsonb),
  odoo_seed.remove_rows(odoo_seed.sync_runs, text, bigint, bigint, int8multirange),
  odoo_seed.unknown_ids(odoo_seed.sync_runs, text, int8multirange)
from public, anon, authenticated;
