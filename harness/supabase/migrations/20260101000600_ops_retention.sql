-- What keeps the database small and its gold views fresh: functions that are called on a schedule (the next migration).
--
-- Three things are not pruned by age. What is pending, processing or failed: never. The signatures of the replay window:
-- odoo.sweep_events does that, every minute. And odoo.event_log, the only memory of how far each aggregate has come: without
-- it a gap in the sequence would no longer be seen. It is append-only and stays so, at some 200 bytes an event.

create schema if not exists ops;
comment on schema ops is 'Operations: what is done on a schedule, how long what is kept, and what stands open. For service_role only.';
revoke all on schema ops from public, anon, authenticated;
grant usage on schema ops to service_role;

create table ops.retention (
  subject text primary key,
  keep interval not null,
  at_least interval not null,
  description text not null,
  constraint retention_long_enough check (keep >= at_least)
);
comment on table ops.retention is 'How long ops.prune keeps what. To change it: update ops.retention set keep = … where subject = ….';
comment on column ops.retention.at_least is 'Less would break a promise; see the description.';

insert into ops.retention (subject, keep, at_least, description) values
  ('odoo.webhook_events', '90 days', '7 days',
   'Completed events, by when they were completed. Of each aggregate the last of each type that took effect stays for ever: gold views read it, and by it a late resend is recognised. A sender without sequence numbers must not resend what is older than this.'),
  ('odoo_seed.sync_pages', '1 day', '1 hour', 'The answers of a sync''s requests, by when they were given: for as long as a sender may ask again.'),
  ('odoo_seed.sync_runs', '90 days', '1 day', 'Runs that ended, but for the last two complete ones of each sync, which say what drift is.'),
  ('odoo_seed.tombstones', '1 year', '30 days', 'What was deleted in Odoo, by when that was seen.'),
  ('cron.job_run_details', '14 days', '1 hour', 'What pg_cron noted about each run of our jobs.');

-- Tiny, since events are stored in the order of their arrival.
create index webhook_events_age on odoo.webhook_events using brin (received_at);
create index tombstones_age on odoo_seed.tombstones (deleted_at);

create function ops.prune(p_limit integer default 50000) returns table (subject text, pruned bigint)
language plpgsql volatile security definer set search_path = '' as $$
#variable_conflict use_column
declare
  v_rule ops.retention%rowtype;
  v_before timestamptz;
begin
  if p_limit is null or p_limit < 1 then
    raise exception 'p_limit must be at least 1' using errcode = 'invalid_parameter_value';
  end if;
  for v_rule in select r.* from ops.retention r order by r.subject loop
    v_before := clock_timestamp() - v_rule.keep;
    case v_rule.subject
      when 'odoo.webhook_events' then
        delete from odoo.webhook_events e where e.id in (
          select x.id from odoo.webhook_events x
          where x.status = 'completed' and x.received_at < v_before and x.processed_at < v_before
            and (x.outcome = 'superseded' or exists (select from odoo.webhook_events n
              where n.instance_id = x.instance_id and n.aggregate_type = x.aggregate_type and n.aggregate_id = x.aggregate_id
                and n.event_type = x.event_type and n.outcome = 'applied' and n.id > x.id))
            and not exists (select from odoo.entity_mappings m
              where m.instance_id = x.instance_id and m.odoo_model = x.aggregate_type and m.odoo_id = x.aggregate_id
                and m.supabase_schema = 'odoo' and m.supabase_table = 'webhook_events' and m.supabase_id = x.id::text)
          limit p_limit for update skip locked);
      when 'odoo_seed.sync_pages' then
        delete from odoo_seed.sync_pages p where (p.instance_id, p.key) in (
          select x.instance_id, x.key from odoo_seed.sync_pages x join odoo_seed.sync_runs r on r.id = x.run_id
          where x.applied_at < v_before and r.status <> 'running'
          limit p_limit for update of x skip locked);
      when 'odoo_seed.sync_runs' then
        delete from odoo_seed.sync_runs r where r.id in (
          select x.id from odoo_seed.sync_runs x
          where x.finished_at < v_before
            and (select count(*) from (
                select from odoo_seed.sync_runs n
                where n.instance_id = x.instance_id and n.sync = x.sync and n.id > x.id and n.status in ('success', 'partial')
                limit 2) newer) = 2
          limit p_limit for update skip locked);
      when 'odoo_seed.tombstones' then
        delete from odoo_seed.tombstones t where (t.instance_id, t.entity, t.odoo_id) in (
          select x.instance_id, x.entity, x.odoo_id from odoo_seed.tombstones x
          where x.deleted_at < v_before
          limit p_limit for update skip locked);
      when 'cron.job_run_details' then
        continue when to_regclass('cron.job_run_details') is null;
        delete from cron.job_run_details d
        where d.end_time < v_before and d.jobid in (select j.jobid from cron.job j where starts_with(j.jobname::text, 'ipai-'));
      else
        raise exception 'ops.prune knows no %', v_rule.subject using errcode = 'invalid_parameter_value';
    end case;
    get diagnostics pruned = row_count;
    subject := v_rule.subject;
    return next;
  end loop;
end
$$;
comment on function ops.prune(integer) is
  'Deletes what is older than ops.retention says: at most p_limit rows of each table a call; how many. Never an event that is not completed. Call it every hour or oftener; calls may overlap.';

-- ------------------------------------------------------------------------------------------------------ gold views
create table ops.refreshes (
  view_name text primary key,
  refreshed_at timestamptz,
  took interval,
  problem text,
  tried_at timestamptz not null
);
comment on table ops.refreshes is 'How fresh each materialized view of scout_gold is, one row a view.';
comment on column ops.refreshes.refreshed_at is 'When it was last refreshed; null: never.';
comment on column ops.refreshes.problem is 'Why the last try failed; null: it did not. The view then shows what it showed before.';

create function ops.refresh_views() returns table (view_name text, online boolean, problem text)
-- Behind a refresh that waits for one slow reader all the others would wait.
language plpgsql volatile security definer set search_path = '' set lock_timeout = '3s' as $$
#variable_conflict use_column
declare
  v_view record;
  v_started timestamptz;
begin
  -- Asked at each call: whoever makes the schema and its views does so before or after this migration.
  delete from ops.refreshes f where to_regclass(f.view_name) is null;
  for v_view in
    with recursive uses as (
      select r.ev_class as reader, d.refobjid as source
      from pg_catalog.pg_depend d join pg_catalog.pg_rewrite r on r.oid = d.objid
      where d.classid = 'pg_catalog.pg_rewrite'::regclass and d.refclassid = 'pg_catalog.pg_class'::regclass
        and d.refobjid <> r.ev_class
    ), reached as (
      select c.oid, 0 as depth from pg_catalog.pg_class c
      where c.relkind = 'm' and c.relnamespace = to_regnamespace('scout_gold')
      union
      select u.reader, a.depth + 1 from reached a join uses u on u.source = a.oid
    )
    select c.oid, c.oid::regclass::text as name,
      c.relispopulated and exists (select from pg_catalog.pg_index i
        where i.indrelid = c.oid and i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null) as online
    from reached a join pg_catalog.pg_class c on c.oid = a.oid
    where c.relkind = 'm' and c.relnamespace = to_regnamespace('scout_gold')
    group by c.oid, c.relname, c.relispopulated
    -- One that reads another comes after it.
    order by max(a.depth), c.relname
  loop
    view_name := v_view.name;
    online := v_view.online;
    problem := null;
    v_started := clock_timestamp();
    begin
      execute format('refresh materialized view %s %s', case when online then 'concurrently' else '' end, v_view.oid::regclass);
    exception when others then
      -- One broken view must not leave the others stale.
      problem := sqlerrm;
    end;
    insert into ops.refreshes as f (view_name, refreshed_at, took, problem, tried_at)
    values (view_name, case when problem is null then v_started end, clock_timestamp() - v_started, problem, v_started)
    on conflict (view_name) do update
      set refreshed_at = coalesce(excluded.refreshed_at, f.refreshed_at), took = excluded.took, problem = excluded.problem,
          tried_at = excluded.tried_at;
    return next;
  end loop;
end
$$;
comment on function ops.refresh_views() is
  'Refreshes every materialized view of schema scout_gold, sources before readers. online: nobody who reads it had to wait, which takes a unique index of plain columns. A view that fails has its problem in the answer and in ops.refreshes; the others are refreshed.';

do $access$
declare
  v_table text;
begin
  foreach v_table in array array['retention', 'refreshes'] loop
    execute format('alter table ops.%I enable row level security', v_table);
    execute format('revoke all on table ops.%I from public, anon, authenticated', v_table);
    execute format('grant select on table ops.%I to service_role', v_table);
  end loop;
end
$access$;
grant update (keep) on ops.retention to service_role;
revoke execute on function ops.prune(integer), ops.refresh_views() from public, anon, authenticated;
grant execute on function ops.prune(integer), ops.refresh_views() to service_role;
