-- The sweep, every minute, by pg_cron where the platform has it (every Supabase project does).

do $schedule$
begin
  if not exists (select from pg_available_extensions where name = 'pg_cron') then
    raise notice 'pg_cron is not to be had here: call "select * from odoo.sweep_events()" every minute or oftener';
    return;
  end if;
  begin
    create extension if not exists pg_cron with schema pg_catalog;
    -- Named: scheduling it again replaces it.
    perform cron.schedule('odoo-sweep-events', '* * * * *', 'select * from odoo.sweep_events(p_limit => 5000)');
  exception when others then
    -- Installed on the machine but not loaded into this server: the schema must go in all the same.
    raise warning 'the sweep was not scheduled (%): call "select * from odoo.sweep_events()" every minute or oftener', sqlerrm;
  end;
end
$schedule$;
