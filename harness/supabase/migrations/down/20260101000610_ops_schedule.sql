do $unschedule$
begin
  if to_regclass('cron.job') is not null then
    perform cron.unschedule(c.jobid) from cron.job c where c.jobname in (select j.job from ops.jobs j);
  end if;
end
$unschedule$;
drop function ops.schedules();
drop function ops.schedule();
drop table ops.jobs;
-- The extension pg_cron stays, whoever created it: by now others may have jobs of their own.
