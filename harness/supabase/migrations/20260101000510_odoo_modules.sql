-- The module inventory: which addons each Odoo has, in which state, from where, and since when.

create table odoo.modules (
  instance_id bigint not null references odoo.instances (id),
  name text not null
    constraint modules_name_form check (length(name) between 1 and 200),
  odoo_id bigint not null,
  title text,
  version text,
  state text not null
    constraint modules_state_form check (length(state) between 1 and 50),
  author text,
  license text,
  source text not null
    constraint modules_source_known check (source in ('ce', 'oca', 'ipai', 'enterprise', 'community')),
  first_seen timestamptz not null default clock_timestamp(),
  last_seen timestamptz not null default clock_timestamp(),
  uninstalled_at timestamptz,
  gone_at timestamptz,
  constraint modules_once primary key (instance_id, name),
  constraint modules_gone_is_not_installed
    check (gone_at is null or state not in ('installed', 'to upgrade', 'to remove')),
  constraint modules_installed_is_not_uninstalled
    check (uninstalled_at is null or state not in ('installed', 'to upgrade', 'to remove'))
);
comment on table odoo.modules is 'The inventory of modules, one row per instance and module that was ever seen there.';
comment on column odoo.modules.version is 'The installed version; null where it never was installed.';
comment on column odoo.modules.state is 'As in Odoo: installed, to upgrade, to remove, uninstalled, to install, uninstallable. What Odoo no longer lists is uninstalled.';
comment on column odoo.modules.source is 'ce: Odoo S.A.; oca: Odoo Community Association; ipai: ours; enterprise: under Odoo''s Enterprise licence; community: anybody else''s.';
comment on column odoo.modules.last_seen is 'When Odoo last listed it.';
comment on column odoo.modules.uninstalled_at is 'When it was first seen not to be installed any more; null while it is installed, or if it never was.';
comment on column odoo.modules.gone_at is 'When Odoo was first seen not to list it any more.';
create index modules_odoo_id on odoo.modules (instance_id, odoo_id);

create function odoo.store_modules(p_instance_id bigint, p_rows jsonb) returns table (outcome text)
language sql volatile security definer set search_path = '' as $$
  insert into odoo.modules as m (instance_id, name, odoo_id, title, version, state, author, license, source)
  select distinct on (r.raw ->> 'name')
    p_instance_id, r.raw ->> 'name', (r.raw ->> 'id')::bigint, r.raw ->> 'shortdesc', r.raw ->> 'latest_version', r.raw ->> 'state',
    r.raw ->> 'author', r.raw ->> 'license', r.source
  from jsonb_to_recordset(p_rows) as r (raw jsonb, source text)
  on conflict on constraint modules_once do update
    set odoo_id = excluded.odoo_id, title = excluded.title, version = excluded.version, state = excluded.state,
        author = excluded.author, license = excluded.license, source = excluded.source, last_seen = excluded.last_seen, gone_at = null,
        uninstalled_at = case
          when excluded.state in ('installed', 'to upgrade', 'to remove') then null
          when m.state in ('installed', 'to upgrade', 'to remove') then excluded.last_seen
          else m.uninstalled_at end
  returning case when m.first_seen = m.last_seen then 'inserted' else 'updated' end
$$;
comment on function odoo.store_modules(bigint, jsonb) is 'Stores a page of modules: one row of the answer per module.';

create function odoo.remove_modules(p_instance_id bigint, p_after bigint, p_upto bigint, p_keep int8multirange) returns bigint
language sql volatile security definer set search_path = '' as $$
  with gone as (
    update odoo.modules m
    set gone_at = clock_timestamp(),
        uninstalled_at = case when m.state in ('installed', 'to upgrade', 'to remove') then clock_timestamp() else m.uninstalled_at end,
        state = 'uninstalled'
    where m.instance_id = p_instance_id and m.gone_at is null and m.odoo_id > p_after and (p_upto is null or m.odoo_id <= p_upto)
      and not m.odoo_id <@ p_keep
    returning 1
  )
  select count(*) from gone
$$;
comment on function odoo.remove_modules(bigint, bigint, bigint, int8multirange) is
  'Marks as gone the modules with ids after p_after, up to p_upto (null: all above), that are not in p_keep; how many.';

do $access$
begin
  alter table odoo.modules enable row level security;
  revoke all on table odoo.modules from public, anon, authenticated;
  grant select on table odoo.modules to service_role;
end
$access$;
revoke execute on function odoo.store_modules(bigint, jsonb) from public, anon, authenticated;
revoke execute on function odoo.remove_modules(bigint, bigint, bigint, int8multirange) from public, anon, authenticated;
