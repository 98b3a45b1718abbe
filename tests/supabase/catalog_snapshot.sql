-- Everything that a migration may make, as lines of text: two databases with the same lines are the same.
-- Not here: the platform's own catalogs, and the CLI's records of what was applied.
set jit = off;  -- compiling it takes three seconds, running it twenty milliseconds
with schemas as (
  select n.oid, n.nspname, n.nspacl, n.nspowner from pg_namespace n
  where n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'supabase_migrations')
), relations as (
  select c.*, c.oid::regclass::text as full_name from pg_class c join schemas s on s.oid = c.relnamespace
)
select 'schema ' || nspname || ' of ' || nspowner::regrole || ' ' || coalesce(nspacl::text, '')
from schemas
union all
select 'relation ' || full_name || ' ' || relkind::text || ' of ' || relowner::regrole
  || concat_ws(' ', '', relacl::text, reloptions::text, relrowsecurity::text, relforcerowsecurity::text, relreplident::text, relpersistence::text)
from relations where relkind <> 'i'
union all
select 'column ' || r.full_name || '.' || a.attname
  || concat_ws(' ', '', a.attnum, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity::text, a.attgenerated::text,
    a.attacl::text, a.attcollation::regcollation, pg_get_expr(d.adbin, d.adrelid))
from relations r join pg_attribute a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
left join pg_attrdef d on d.adrelid = r.oid and d.adnum = a.attnum
union all
select 'constraint ' || n.conname || ' on ' || n.conrelid::regclass || n.contypid::regtype || ' ' || pg_get_constraintdef(n.oid)
from pg_constraint n join schemas s on s.oid = n.connamespace
union all
select 'index ' || pg_get_indexdef(i.indexrelid) || ' ' || i.indisvalid || i.indisreplident
from pg_index i join relations r on r.oid = i.indrelid
union all
select 'routine ' || p.oid::regprocedure || ' of ' || p.proowner::regrole || ' ' || coalesce(p.proacl::text, '') || e' '
  || case when p.prokind = 'a' then 'aggregate' else pg_get_functiondef(p.oid) end
from pg_proc p join schemas s on s.oid = p.pronamespace
union all
select 'view ' || r.full_name || ' ' || pg_get_viewdef(r.oid) from relations r where r.relkind in ('v', 'm')
union all
select 'trigger ' || pg_get_triggerdef(t.oid) || ' ' || t.tgenabled::text
from pg_trigger t join relations r on r.oid = t.tgrelid where not t.tgisinternal
union all
select 'rule ' || pg_get_ruledef(u.oid) from pg_rewrite u join relations r on r.oid = u.ev_class where u.rulename <> '_RETURN'
union all
select 'policy ' || p.polname || ' on ' || p.polrelid::regclass
  || concat_ws(' ', '', p.polcmd::text, p.polpermissive, p.polroles::regrole[], pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
from pg_policy p
union all
select 'type ' || t.oid::regtype || ' ' || t.typtype::text || ' ' || coalesce(t.typacl::text, '')
  || coalesce((select string_agg(e.enumlabel, ',' order by e.enumsortorder) from pg_enum e where e.enumtypid = t.oid), '')
from pg_type t join schemas s on s.oid = t.typnamespace where t.typrelid = 0 and t.typelem = 0
union all
select 'comment on ' || o.type || ' ' || o.identity || ': ' || d.description
-- What initdb made has lower numbers.
from (select * from pg_description where objoid >= 16384) d cross join lateral pg_identify_object(d.classoid, d.objoid, d.objsubid) o
where o.schema in (select nspname from schemas) or d.classoid in ('pg_namespace'::regclass, 'pg_publication'::regclass)
union all
select 'publication ' || concat_ws(' ', p.pubname, p.pubowner::regrole, p.puballtables, p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate)
from pg_publication p
union all
select 'publication ' || p.pubname || ' has ' || p.schemaname || '.' || p.tablename || concat_ws(' ', '', p.attnames::text, p.rowfilter)
from pg_publication_tables p
union all
select 'default rights ' || concat_ws(' ', d.defaclrole::regrole, d.defaclnamespace::regnamespace, d.defaclobjtype::text, d.defaclacl::text)
from pg_default_acl d
union all
select 'extension ' || extname || ' ' || extversion || ' in ' || extnamespace::regnamespace from pg_extension
union all
select 'event trigger ' || evtname || ' ' || evtevent || ' ' || evtfoid::regprocedure from pg_event_trigger
union all
select 'role ' || concat_ws(' ', rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolbypassrls, rolconfig::text)
from pg_roles where rolname !~ '^pg_'
union all
select 'member ' || m.member::regrole || ' of ' || m.roleid::regrole from pg_auth_members m
order by 1
