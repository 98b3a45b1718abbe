drop function odoo.realtime_sent(text, text, text);
drop function odoo.realtime_request(text, uuid, text, text, timestamptz);
drop function odoo.realtime_summary(bigint);
drop function odoo.realtime_count(text, bigint, bigint, bigint);
drop function odoo.written_since(xid, xid8);
drop function odoo.realtime_status();

do $channel$
begin
  if to_regclass('realtime.messages') is not null then
    drop policy odoo_sync_readers on realtime.messages;
  end if;
end
$channel$;
drop policy shadow_readers on odoo_seed.shadow_tasks;
drop policy shadow_readers on odoo_seed.shadow_projects;
drop policy events_readers on odoo.webhook_events;
revoke select on odoo.webhook_events, odoo_seed.shadow_projects, odoo_seed.shadow_tasks from authenticated;
revoke usage on schema odoo, odoo_seed from authenticated;

do $publish$
declare
  v_table regclass;
begin
  for v_table in
    select t.oid from (select to_regclass(r.name) as oid from odoo.realtime_tables() r) t
    where exists (select from pg_publication_rel p join pg_publication b on b.oid = p.prpubid
      where b.pubname = 'supabase_realtime' and p.prrelid = t.oid)
  loop
    execute format('alter publication supabase_realtime drop table %s', v_table);
  end loop;
end
$publish$;
drop function odoo.realtime_tables();
