-- What the audit asks of the database: catalogues only. Works for any role, on PostgreSQL 15 and 16.
-- %(roles)s: the API's roles that exist, and "public". What belongs to an extension, and the system's schemas, are left out.

-- name: version
select current_setting('server_version_num')::int / 10000 as major, current_setting('server_version') as version

-- name: roles
select r.rolname as name, r.rolsuper as superuser, r.rolbypassrls as bypassrls, r.rolcreaterole as createrole,
  r.rolcreatedb as createdb, r.rolreplication as replication, r.rolcanlogin as login,
  array(
    select g.rolname::text from pg_auth_members m join pg_roles g on g.oid = m.roleid
    where m.member = r.oid order by 1
  ) as member_of
from pg_roles r
where r.rolname in ('anon', 'authenticated')
order by 1

-- name: exposed
select split_part(setting, '=', 2) as schemas
from pg_db_role_setting s
join pg_roles r on r.oid = s.setrole
cross join unnest(s.setconfig) setting
where r.rolname = 'authenticator' and setting like 'pgrst.db\_schemas=%%'
  and s.setdatabase in (0, (select oid from pg_database where datname = current_database()))
order by s.setdatabase desc
limit 1

-- name: schemas
select n.nspname as name,
  array(select r from unnest(%(roles)s) r where has_schema_privilege(r::name, n.oid, 'USAGE')) as usage,
  array(select r from unnest(%(roles)s) r where has_schema_privilege(r::name, n.oid, 'CREATE')) as creates
from pg_namespace n
where n.nspname not like 'pg\_%%' and n.nspname <> 'information_schema'
order by 1

-- name: relations
select n.nspname as schema, c.relname as name, c.relkind::text as kind, c.relrowsecurity as rls,
  pg_get_userbyid(c.relowner)::text as owner, coalesce(c.reloptions, '{}') as options,
  coalesce(obj_description(c.oid, 'pg_class'), '') as comment,
  array(
    select r || ' ' || p
    from unnest(%(roles)s) r
    cross join unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) p
    where has_table_privilege(r::name, c.oid, p)
      or (p in ('SELECT', 'INSERT', 'UPDATE') and has_any_column_privilege(r::name, c.oid, p))
  ) as grants,
  coalesce((
    select bit_or(t.tgtype::int) from pg_trigger t
    where t.tgrelid = c.oid and not t.tgisinternal and t.tgenabled in ('O', 'A') and t.tgtype & 2 = 2
  ), 0) as guarded
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'v', 'm', 'f')
  and n.nspname not like 'pg\_%%' and n.nspname <> 'information_schema'
  and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
order by 1, 2

-- name: policies
select n.nspname as schema, c.relname as table, p.polname as name, p.polcmd::text as command, c.relrowsecurity as rls,
  p.polpermissive as permissive,
  array(
    select case when r = 0 then 'public' else pg_get_userbyid(r)::text end from unnest(p.polroles) r order by 1
  ) as roles,
  pg_get_expr(p.polqual, p.polrelid) as using, pg_get_expr(p.polwithcheck, p.polrelid) as check
from pg_policy p
join pg_class c on c.oid = p.polrelid
join pg_namespace n on n.oid = c.relnamespace
order by 1, 2, 3

-- name: definers
select n.nspname as schema, p.proname as name, pg_get_function_identity_arguments(p.oid) as arguments,
  coalesce(p.proconfig, '{}') as settings,
  p.prorettype in ('pg_catalog.trigger'::regtype, 'pg_catalog.event_trigger'::regtype) as is_trigger,
  array(select r from unnest(%(roles)s) r where has_function_privilege(r::name, p.oid, 'EXECUTE')) as executed_by
from pg_proc p
join pg_namespace n on n.oid = p.pronamespace
where p.prosecdef and n.nspname not like 'pg\_%%' and n.nspname <> 'information_schema'
  and not exists (select from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')
order by 1, 2, 3

-- name: defaults
select coalesce(n.nspname, '') as schema, pg_get_userbyid(d.defaclrole)::text as owner, d.defaclobjtype::text as kind,
  case when a.grantee = 0 then 'public' else pg_get_userbyid(a.grantee)::text end as grantee,
  array_agg(a.privilege_type order by a.privilege_type) as privileges
from pg_default_acl d
left join pg_namespace n on n.oid = d.defaclnamespace
cross join aclexplode(d.defaclacl) a
group by 1, 2, 3, 4
order by 1, 2, 3, 4

-- name: extensions
select e.extname as name, n.nspname as schema, e.extrelocatable as relocatable
from pg_extension e join pg_namespace n on n.oid = e.extnamespace
order by 1

-- name: publications
select pubname as name from pg_publication where puballtables order by 1
