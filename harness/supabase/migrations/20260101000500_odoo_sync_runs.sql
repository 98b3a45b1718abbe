-- Scheduled syncs: what every one of them shares. A run is a row; it is told page by page, and each page is one call.
--
--   begin ─▶ running ─┬─ finish ─▶ success | partial | failed
--                     └─ nothing heard for 5 minutes, and another run begins, or one takes over ─▶ failed

create schema if not exists odoo_seed;
comment on schema odoo_seed is 'What should be in Odoo (projects, tasks), what is (the shadow), and the runs of the scheduled syncs. Written by SQL functions, for service_role only.';
revoke all on schema odoo_seed from public, anon, authenticated;
grant usage on schema odoo_seed to service_role;

create table odoo_seed.sync_runs (
  id bigint generated always as identity primary key,
  run uuid not null,
  instance_id bigint not null references odoo.instances (id),
  sync text not null
    constraint sync_runs_sync_known check (sync in ('modules', 'finance', 'catalog', 'documents')),
  mode text not null
    constraint sync_runs_mode_known check (mode in ('full', 'increment')),
  status text not null default 'running'
    constraint sync_runs_status_known check (status in ('running', 'success', 'partial', 'failed')),
  started_at timestamptz not null default clock_timestamp(),
  heard_at timestamptz not null default clock_timestamp(),
  finished_at timestamptz,
  pages integer not null default 0,
  inserted bigint not null default 0,
  updated bigint not null default 0,
  unchanged bigint not null default 0,
  deleted bigint not null default 0,
  error_count bigint not null default 0,
  errors jsonb not null default '[]'
    constraint sync_runs_errors_array check (jsonb_typeof(errors) = 'array'),
  warnings jsonb not null default '[]'
    constraint sync_runs_warnings_array check (jsonb_typeof(warnings) = 'array'),
  edition text
    constraint sync_runs_edition_known check (edition in ('ce', 'enterprise')),
  progress jsonb not null default '{}'
    constraint sync_runs_progress_object check (jsonb_typeof(progress) = 'object'),
  constraint sync_runs_once unique (instance_id, sync, run),
  constraint sync_runs_finished_when_ended check ((status = 'running') = (finished_at is null)),
  constraint sync_runs_errors_counted check (error_count >= jsonb_array_length(errors)),
  constraint sync_runs_success_without_errors check (status <> 'success' or error_count = 0)
);
comment on table odoo_seed.sync_runs is 'One row per run of a scheduled sync. Only success means that all of Odoo was seen; running is one that is under way, or was cut off.';
comment on column odoo_seed.sync_runs.run is 'The sender''s id of the run.';
comment on column odoo_seed.sync_runs.mode is 'full: every record. increment: what was written since the last run, and the ids of all for what was deleted.';
comment on column odoo_seed.sync_runs.status is 'running; success: complete and without an error; partial: some records or entities are missing, see errors; failed: it ended early.';
comment on column odoo_seed.sync_runs.heard_at is 'When its last page came.';
comment on column odoo_seed.sync_runs.errors is 'The first 100: objects of entity, odoo_id and error.';
comment on column odoo_seed.sync_runs.warnings is 'What people should look at although the sync succeeded, such as an Enterprise licence in a CE database.';
comment on column odoo_seed.sync_runs.progress is 'Per entity: upto (the highest id told of so far), done, errors.';
create unique index sync_runs_one_at_a_time on odoo_seed.sync_runs (instance_id, sync) where status = 'running';
create index sync_runs_latest on odoo_seed.sync_runs (instance_id, sync, id desc);

create table odoo_seed.sync_pages (
  instance_id bigint not null,
  key uuid not null,
  run_id bigint not null references odoo_seed.sync_runs (id) on delete cascade,
  answer jsonb not null,
  applied_at timestamptz not null default clock_timestamp(),
  primary key (instance_id, key)
);
comment on table odoo_seed.sync_pages is 'Every request of a run by its idempotency key, with the answer that was given: sent again, it changes nothing and gets the same answer. Pruned a day after the run.';
create index sync_pages_run on odoo_seed.sync_pages (run_id);

create function odoo_seed.sync_entities(p_sync text) returns text[]
language sql immutable strict parallel safe set search_path = '' as $$
  select case p_sync when 'finance' then array['project.project', 'project.task'] when 'modules' then array['ir.module.module']
    when 'catalog' then array['ir.model'] when 'documents' then array['ir.attachment'] end
$$;
comment on function odoo_seed.sync_entities(text) is 'The Odoo models of a sync, in the order in which they are read.';

create function odoo_seed.admit(
  p_instance text, p_key uuid, p_signature text, p_signed_at timestamptz, out instance_id bigint, out verdict text
)
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_signature bytea := decode(p_signature, 'hex');
  v_seen odoo.accepted_signatures%rowtype;
  v_active boolean;
begin
  if p_instance is null or p_key is null or v_signature is null or p_signed_at is null then
    raise exception 'instance, idempotency key, signature and its time are required' using errcode = 'null_value_not_allowed';
  end if;
  insert into odoo.accepted_signatures (signature, instance, idempotency_key, expires_at)
  values (v_signature, p_instance, p_key, p_signed_at + interval '5 minutes')
  on conflict (signature) do nothing;
  if not found then
    select s.* into v_seen from odoo.accepted_signatures s where s.signature = v_signature;
    if v_seen.instance is distinct from p_instance or v_seen.idempotency_key is distinct from p_key then
      verdict := 'replayed_signature';
      return;
    end if;
  end if;
  insert into odoo.instances (name) values (p_instance) on conflict (name) do nothing;
  select i.id, i.active into strict instance_id, v_active from odoo.instances i where i.name = p_instance;
  verdict := case when v_active then 'accepted' else 'instance_inactive' end;
end
$$;
comment on function odoo_seed.admit(text, uuid, text, timestamptz) is
  'Whether a verified request may have an effect, as for events: each signature once, only of active instances. An unknown instance registers itself.';

create function odoo_seed.begin_run(p_instance_id bigint, p_sync text, p_body jsonb, out verdict text, out answer jsonb, out run_id bigint)
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_entities text[] := odoo_seed.sync_entities(p_sync);
  v_other odoo_seed.sync_runs%rowtype;
  v_cursors jsonb;
  v_mode text;
begin
  select r.* into v_other from odoo_seed.sync_runs r
  where r.instance_id = p_instance_id and r.sync = p_sync and r.status = 'running';
  if found then
    if v_other.heard_at > clock_timestamp() - interval '5 minutes' and (p_body ->> 'take_over') is distinct from 'true' then
      verdict := 'run_in_progress';
      return;
    end if;
    update odoo_seed.sync_runs r
    set status = 'failed', finished_at = clock_timestamp(), error_count = r.error_count + 1,
        errors = case when jsonb_array_length(r.errors) < 100
          then r.errors || jsonb_build_array(jsonb_build_object('error', 'interrupted: it never ended, and another run took its place'))
          else r.errors end
    where r.id = v_other.id;
  end if;
  -- What was answered is kept for as long as a sender may ask again.
  delete from odoo_seed.sync_pages p using odoo_seed.sync_runs r
  where r.id = p.run_id and r.instance_id = p_instance_id and r.sync = p_sync and r.finished_at < clock_timestamp() - interval '1 day';

  select coalesce(jsonb_object_agg(c.entity, c.cursor), '{}') into v_cursors from odoo.sync_cursors c
  where c.instance_id = p_instance_id and c.entity = any (v_entities) and c.cursor is not null;
  v_mode := case when (p_body ->> 'full') = 'true' or not v_cursors ?& v_entities then 'full' else 'increment' end;
  insert into odoo_seed.sync_runs (run, instance_id, sync, mode, edition)
  values ((p_body ->> 'run')::uuid, p_instance_id, p_sync, v_mode, p_body ->> 'edition')
  returning id into run_id;
  if p_sync = 'catalog' then
    perform catalog.name_database(p_instance_id, p_body ->> 'database');
  end if;
  verdict := 'accepted';
  answer := jsonb_build_object('mode', v_mode, 'cursors', v_cursors);
end
$$;
comment on function odoo_seed.begin_run(bigint, text, jsonb) is
  'Begins a run: one at a time per instance and sync. One of which nothing was heard for 5 minutes, or that is taken over, has failed. Called by sync_request, under its lock.';

create function odoo_seed.finish_run(p_run odoo_seed.sync_runs, p_body jsonb) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_entities text[] := odoo_seed.sync_entities(p_run.sync);
  v_entity text;
  v_done integer := 0;
  v_error jsonb;
  v_run odoo_seed.sync_runs%rowtype := p_run;
begin
  for v_error in select e from jsonb_array_elements(coalesce(p_body -> 'errors', '[]')) e loop
    v_run := odoo_seed.note_error(v_run, v_error ->> 'entity', (v_error ->> 'odoo_id')::bigint, v_error ->> 'error');
  end loop;
  if v_run.sync = 'documents' then
    for v_error in select to_jsonb(p) from erp.pending_documents(v_run.instance_id) p
      where not exists (select from jsonb_array_elements(v_run.errors) e where e -> 'odoo_id' = to_jsonb(p))
    loop
      v_run := odoo_seed.note_error(v_run, 'ir.attachment', v_error::bigint, 'its content has not arrived in the storage');
    end loop;
  end if;
  foreach v_entity in array v_entities loop
    if coalesce((v_run.progress -> v_entity ->> 'done')::boolean, false) then
      v_done := v_done + 1;
      -- A record that could not be read or stored would else never be asked for again.
      if coalesce((v_run.progress -> v_entity ->> 'errors')::integer, 0) = 0 and (p_body ->> 'failed') is distinct from 'true' then
        insert into odoo.sync_cursors as c (instance_id, entity, cursor, last_sync_at)
        values (v_run.instance_id, v_entity, p_body -> 'cursors' ->> v_entity, clock_timestamp())
        on conflict (instance_id, entity) do update
          set cursor = coalesce(excluded.cursor, c.cursor), last_sync_at = excluded.last_sync_at;
      end if;
    elsif not coalesce((v_run.progress -> v_entity ->> 'errors')::integer, 0) > 0 then
      v_run := odoo_seed.note_error(v_run, v_entity, null, 'not complete: the run ended before its last page');
    end if;
  end loop;
  v_run.status := case
    when (p_body ->> 'failed') = 'true' or v_done = 0 then 'failed'
    when v_run.error_count > 0 then 'partial'
    else 'success' end;
  if v_run.sync = 'modules' and v_run.edition is distinct from 'enterprise' then
    select coalesce(jsonb_agg(jsonb_build_object('warning', 'enterprise_licence', 'module', m.name, 'license', m.license) order by m.name), '[]')
    into v_run.warnings
    from odoo.modules m
    where m.instance_id = v_run.instance_id and m.source = 'enterprise' and m.state in ('installed', 'to upgrade', 'to remove');
  end if;
  update odoo_seed.sync_runs r
  set status = v_run.status, finished_at = clock_timestamp(), heard_at = clock_timestamp(), error_count = v_run.error_count,
      errors = v_run.errors, warnings = v_run.warnings, progress = v_run.progress
  where r.id = v_run.id;
  return jsonb_build_object('status', v_run.status, 'mode', v_run.mode, 'pages', v_run.pages, 'inserted', v_run.inserted,
    'updated', v_run.updated, 'unchanged', v_run.unchanged, 'deleted', v_run.deleted, 'error_count', v_run.error_count,
    'errors', v_run.errors, 'warnings', v_run.warnings)
    -- Even of a run that failed: what its pages said of the models holds.
    || case when v_run.sync = 'catalog' then jsonb_build_object('lineage', catalog.refresh_lineage(v_run.instance_id)) else '{}' end;
end
$$;
comment on function odoo_seed.finish_run(odoo_seed.sync_runs, jsonb) is
  'Ends a run and moves the cursors of what is complete and without errors. success only if every entity came to its last page and nothing failed.';

create function odoo_seed.note_error(p_run odoo_seed.sync_runs, p_entity text, p_odoo_id bigint, p_error text) returns odoo_seed.sync_runs
language plpgsql immutable set search_path = '' as $$
begin
  p_run.error_count := p_run.error_count + 1;
  if jsonb_array_length(p_run.errors) < 100 then
    p_run.errors := p_run.errors
      || jsonb_build_array(jsonb_strip_nulls(jsonb_build_object('entity', p_entity, 'odoo_id', p_odoo_id, 'error', left(coalesce(p_error, 'unknown'), 1000))));
  end if;
  if p_entity is not null then
    p_run.progress := jsonb_set(p_run.progress, array[p_entity],
      coalesce(p_run.progress -> p_entity, '{}')
        || jsonb_build_object('errors', coalesce((p_run.progress -> p_entity ->> 'errors')::integer, 0) + 1));
  end if;
  return p_run;
end
$$;
comment on function odoo_seed.note_error(odoo_seed.sync_runs, text, bigint, text) is 'The run with one more error; the caller stores it.';

create function odoo_seed.apply_page(p_run odoo_seed.sync_runs, p_body jsonb, out verdict text, out answer jsonb)
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_run odoo_seed.sync_runs%rowtype := p_run;
  v_entity text := p_body ->> 'entity';
  v_action text := p_body ->> 'action';
  v_span jsonb := p_body -> 'span';
  v_rows jsonb := coalesce(p_body -> 'rows', '[]');
  v_after bigint;
  v_upto bigint;
  v_keep int8multirange := '{}';
  v_error jsonb;
  v_inserted bigint := 0;
  v_updated bigint := 0;
  v_unchanged bigint := 0;
  v_deleted bigint := 0;
  v_unknown jsonb := '[]';
begin
  -- A page of a full run, and a page of ids, is the whole truth about the ids in its span; a page of changes about its rows only.
  if v_entity is null or not v_entity = any (odoo_seed.sync_entities(v_run.sync))
    or jsonb_typeof(v_rows) <> 'array' or jsonb_array_length(v_rows) > 5000
    or jsonb_typeof(coalesce(p_body -> 'errors', '[]')) <> 'array'
    or exists (select from jsonb_array_elements(v_rows) r
      where jsonb_typeof(r -> 'raw' -> 'id') is distinct from 'number' or (r -> 'raw' ->> 'id') !~ '^[1-9][0-9]{0,17}$')
    or (v_run.mode = 'full' and (v_action <> 'page' or v_span is null))
    or (v_run.mode = 'increment' and (v_action = 'ids') <> (v_span is not null))
    or (v_action = 'ids' and coalesce((select sum(upper(g) - lower(g)) > 1000000 or bool_or(upper_inf(g) or lower_inf(g))
      from unnest((p_body ->> 'ids')::int8multirange) g), p_body ->> 'ids' is null))
  then
    verdict := 'invalid_page';
    return;
  end if;
  if v_span is not null then
    if jsonb_typeof(v_span) <> 'array' or jsonb_array_length(v_span) <> 2 then
      verdict := 'invalid_page';
      return;
    end if;
    v_after := (v_span ->> 0)::bigint;
    v_upto := (v_span ->> 1)::bigint;
    if v_after is null or v_upto <= v_after or coalesce((v_run.progress -> v_entity ->> 'done')::boolean, false)
      or v_after <> coalesce((v_run.progress -> v_entity ->> 'upto')::bigint, 0)
    then
      verdict := 'page_out_of_order';
      return;
    end if;
  end if;

  select count(*) filter (where s.outcome = 'inserted'), count(*) filter (where s.outcome = 'updated')
  into v_inserted, v_updated
  from odoo_seed.store_rows(v_run, v_entity, v_rows) s;
  v_unchanged := (select count(distinct r -> 'raw' -> 'id') from jsonb_array_elements(v_rows) r) - v_inserted - v_updated;

  for v_error in select e from jsonb_array_elements(coalesce(p_body -> 'errors', '[]')) e loop
    v_run := odoo_seed.note_error(v_run, v_entity, (v_error ->> 'odoo_id')::bigint, v_error ->> 'error');
    -- It is in Odoo, only not readable: no reason to take it for deleted.
    if v_error ->> 'odoo_id' is not null then
      v_keep := v_keep + int8multirange(int8range((v_error ->> 'odoo_id')::bigint, (v_error ->> 'odoo_id')::bigint, '[]'));
    end if;
  end loop;

  if v_span is not null then
    if v_action = 'ids' then
      v_keep := v_keep + (p_body ->> 'ids')::int8multirange;
    else
      v_keep := v_keep + coalesce((select range_agg(int8range(i.id, i.id, '[]'))
        from (select (r -> 'raw' ->> 'id')::bigint as id from jsonb_array_elements(v_rows) r) i), '{}');
    end if;
    v_deleted := odoo_seed.remove_rows(v_run, v_entity, v_after, v_upto, v_keep);
    if v_action = 'ids' then
      select coalesce(jsonb_agg(u.id order by u.id), '[]') into v_unknown
      from odoo_seed.unknown_ids(v_run, v_entity, (p_body ->> 'ids')::int8multirange) u (id);
    end if;
    v_run.progress := jsonb_set(v_run.progress, array[v_entity], coalesce(v_run.progress -> v_entity, '{}')
      || jsonb_build_object('upto', v_upto, 'done', v_upto is null));
  end if;

  update odoo_seed.sync_runs r
  set heard_at = clock_timestamp(), pages = r.pages + 1, inserted = r.inserted + v_inserted, updated = r.updated + v_updated,
      unchanged = r.unchanged + v_unchanged, deleted = r.deleted + v_deleted, error_count = v_run.error_count,
      errors = v_run.errors, progress = v_run.progress
  where r.id = v_run.id;
  verdict := 'accepted';
  answer := jsonb_build_object('inserted', v_inserted, 'updated', v_updated, 'unchanged', v_unchanged, 'deleted', v_deleted)
    || case when v_action = 'ids' then jsonb_build_object('unknown', v_unknown) else '{}' end
    || case when v_run.sync = 'documents' then jsonb_build_object('wanted', erp.wanted_documents(v_run.instance_id, v_rows)) else '{}' end;
end
$$;
comment on function odoo_seed.apply_page(odoo_seed.sync_runs, jsonb) is
  'One page: stores its rows, removes what its span proves deleted, counts. A span must begin where the one before ended: no gap can hide. Called by sync_request, under its lock.';

create function odoo_seed.sync_request(
  p_sync text, p_instance text, p_key uuid, p_body text, p_signature text, p_signed_at timestamptz,
  out verdict text, out answer jsonb
)
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_body jsonb := p_body::jsonb;
  v_instance_id bigint;
  v_run odoo_seed.sync_runs%rowtype;
begin
  if odoo_seed.sync_entities(p_sync) is null then
    raise exception 'there is no sync of this name' using errcode = 'invalid_parameter_value';
  end if;
  select a.instance_id, a.verdict into v_instance_id, verdict from odoo_seed.admit(p_instance, p_key, p_signature, p_signed_at) a;
  if verdict <> 'accepted' then
    return;
  end if;
  if jsonb_typeof(v_body) <> 'object' or coalesce(v_body ->> 'action', '') not in ('begin', 'page', 'ids', 'stored', 'finish')
    or coalesce(v_body ->> 'run', '') !~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
  then
    verdict := 'invalid_page';
    return;
  end if;

  -- One request at a time for each instance and sync: two runs, or one page sent twice at once, cannot cross.
  perform pg_advisory_xact_lock(odoo.aggregate_lock('sync', v_instance_id, p_sync, ''));
  select p.answer || '{"duplicate": true}' into answer from odoo_seed.sync_pages p
  where p.instance_id = v_instance_id and p.key = p_key;
  if found then
    return;
  end if;

  select r.* into v_run from odoo_seed.sync_runs r
  where r.instance_id = v_instance_id and r.sync = p_sync and r.run = (v_body ->> 'run')::uuid;
  if v_body ->> 'action' = 'begin' then
    if v_run.id is not null then
      verdict := 'run_ended';
      return;
    end if;
    select b.verdict, b.answer, b.run_id into verdict, answer, v_run.id from odoo_seed.begin_run(v_instance_id, p_sync, v_body) b;
  elsif v_run.id is null then
    verdict := 'unknown_run';
  elsif v_run.status <> 'running' then
    verdict := 'run_ended';
  elsif v_body ->> 'action' = 'finish' then
    answer := odoo_seed.finish_run(v_run, v_body);
  elsif v_body ->> 'action' = 'stored' then
    if p_sync <> 'documents' or jsonb_typeof(v_body -> 'ids') is distinct from 'array' then
      verdict := 'invalid_page';
      return;
    end if;
    answer := erp.confirm_documents(v_instance_id, v_body -> 'ids');
    update odoo_seed.sync_runs r set heard_at = clock_timestamp() where r.id = v_run.id;
  else
    select a.verdict, a.answer into verdict, answer from odoo_seed.apply_page(v_run, v_body) a;
  end if;
  if verdict = 'accepted' then
    answer := answer || '{"duplicate": false}';
    insert into odoo_seed.sync_pages (instance_id, key, run_id, answer) values (v_instance_id, p_key, v_run.id, answer);
  end if;
end
$$;
comment on function odoo_seed.sync_request(text, text, uuid, text, text, timestamptz) is
  'One verified request of a sync: begin, page, ids, stored (of documents) or finish, once per key. verdict: accepted, replayed_signature, instance_inactive, invalid_page, page_out_of_order, unknown_run, run_ended, run_in_progress; nothing but accepted has an effect. Raises class 22 for a body that is not of this form.';

do $access$
declare
  v_name text;
begin
  foreach v_name in array array['sync_runs', 'sync_pages'] loop
    execute format('alter table odoo_seed.%I enable row level security', v_name);
    execute format('revoke all on table odoo_seed.%I from public, anon, authenticated', v_name);
  end loop;
end
$access$;
grant select on odoo_seed.sync_runs to service_role;
revoke execute on function
  odoo_seed.sync_entities(text),
  odoo_seed.admit(text, uuid, text, timestamptz),
  odoo_seed.begin_run(bigint, text, jsonb),
  odoo_seed.finish_run(odoo_seed.sync_runs, jsonb),
  odoo_seed.note_error(odoo_seed.sync_runs, text, bigint, text),
  odoo_seed.apply_page(odoo_seed.sync_runs, jsonb),
  odoo_seed.sync_request(text, text, uuid, text, text, timestamptz)
from public, anon, authenticated;
grant execute on function odoo_seed.sync_request(text, text, uuid, text, text, timestamptz) to service_role;
