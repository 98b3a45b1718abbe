-- What is done on a schedule, by pg_cron where the platform has it (every Supabase project does).
--
-- One job sweeps what is pending and retries what failed: within an aggregate a failed event and a newer pending one take
-- effect in order, so that nobody may do the one without the other.

create table ops.jobs (
  job text primary key
    constraint jobs_job_form check (job ~ '^ipai-[a-z-]+$'),
  schedule text not null
    constraint jobs_schedule_form check (schedule ~ '^[0-9*/, -]+$'),
  command text not null,
  enabled boolean not null default true,
  description text not null
);
comment on table ops.jobs is 'What is to be done on a schedule. After a change of schedule or enabled: select ops.schedule().';
comment on column ops.jobs.schedule is 'As in a crontab, in UTC.';
comment on column ops.jobs.command is 'Run as the owner of this table: nobody else may change it.';

insert into ops.jobs (job, schedule, command, description) values
  ('ipai-sweep-events', '* * * * *', 'select * from odoo.sweep_events(p_limit => 5000)',
   'Processes pending events that nobody processed, retries failed ones that are due, forgets signatures that left the replay window.'),
  ('ipai-prune', '37 * * * *', 'select * from ops.prune()', 'Deletes what is older than ops.retention says.'),
  ('ipai-refresh-gold', '7 * * * *', 'select * from ops.refresh_views()', 'Refreshes the materialized views of scout_gold.');

create function ops.schedule() returns text
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_job ops.jobs%rowtype;
begin
  if to_regclass('cron.job') is null then
    if not exists (select from pg_catalog.pg_available_extensions where name = 'pg_cron') then
      return 'the extension pg_cron is not to be had on this server';
    end if;
    create extension if not exists pg_cron with schema pg_catalog;
  end if;
  for v_job in select j.* from ops.jobs j order by j.job loop
    if v_job.enabled then
      -- By name: scheduling it again replaces it.
      perform cron.schedule(v_job.job, v_job.schedule, v_job.command);
    else
      perform cron.unschedule(c.jobid) from cron.job c where c.jobname = v_job.job;
    end if;
  end loop;
  return null;
exception when others then
  -- Not allowed to create it, or on the machine but not loaded into this server: the rest of the schema must go in all the same.
  return sqlerrm;
end
$$;
comment on function ops.schedule() is
  'Has pg_cron do what ops.jobs says; null, or why it cannot. To be called again after a change of ops.jobs, or when pg_cron has come.';

create function ops.schedules() returns table (
  job text, schedule text, scheduled boolean, last_run timestamptz, last_status text, last_message text, problem text
)
language plpgsql stable security definer set search_path = '' as $$
#variable_conflict use_column
declare
  v_job ops.jobs%rowtype;
  v_job_id bigint;
begin
  for v_job in select j.* from ops.jobs j order by j.job loop
    job := v_job.job;
    schedule := v_job.schedule;
    scheduled := false;
    last_run := null;
    last_status := null;
    last_message := null;
    problem := null;
    if to_regclass('cron.job') is not null then
      select c.jobid, c.active and c.schedule = v_job.schedule and c.command = v_job.command and c.database = current_database()
      into v_job_id, scheduled
      from cron.job c where c.jobname = v_job.job;
      scheduled := coalesce(scheduled, false);
      select d.start_time, d.status, d.return_message into last_run, last_status, last_message
      from cron.job_run_details d where d.jobid = v_job_id order by d.runid desc limit 1;
    end if;
    problem := case
      when not v_job.enabled and not scheduled then 'switched off in ops.jobs'
      when not v_job.enabled then 'switched off in ops.jobs, and scheduled all the same: select ops.schedule()'
      when not scheduled and to_regclass('cron.job') is null then format('there is no pg_cron here: call "%s" by other means', v_job.command)
      when not scheduled then 'not scheduled as ops.jobs says: select ops.schedule()'
      when last_status = 'failed' then last_message
      when v_job.job = 'ipai-refresh-gold' then
        (select string_agg(f.view_name || ': ' || f.problem, '; ' order by f.view_name) from ops.refreshes f where f.problem is not null)
    end;
    return next;
  end loop;
end
$$;
comment on function ops.schedules() is
  'What is done on a schedule: whether pg_cron has it as ops.jobs says, when it last ran (null: not yet) and how that ended, and what is wrong (null: nothing).';

do $access$
begin
  alter table ops.jobs enable row level security;
  revoke all on table ops.jobs from public, anon, authenticated;
  grant select, update (schedule, enabled) on table ops.jobs to service_role;
end
$access$;
revoke execute on function ops.schedule(), ops.schedules() from public, anon, authenticated;
grant execute on function ops.schedule(), ops.schedules() to service_role;

do $schedule$
declare
  v_reason text := ops.schedule();
begin
  if v_reason is not null then
    raise notice 'nothing was scheduled (%): see "select * from ops.schedules()" for what to call, and how often', v_reason;
  end if;
end
$schedule$;
