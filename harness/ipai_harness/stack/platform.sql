-- What a Supabase project has before its first migration, for a plain PostgreSQL 15 or later.
--
-- Run it as the bootstrap superuser (supabase_admin), connected to the database that is to be the project's. It may be run
-- again at any time. Afterwards the migrations are applied as the role postgres, which, as on the platform, is NOT a
-- superuser: a migration that only works for a superuser fails here as it would fail there.
--
-- Not here: passwords (whoever starts the cluster sets them), and the services (auth; of storage, its tables; of realtime, only
-- what migrations write policies for). What serves storage and realtime stands beside gateway.ts.

do $platform$
declare
  v_role text;
begin
  -- Roles belong to the cluster, not to the database: each is made only where it is missing, and then given its attributes.
  foreach v_role in array array['postgres', 'anon', 'authenticated', 'service_role', 'authenticator', 'dashboard_user'] loop
    if to_regrole(v_role) is null then
      execute format('create role %I', v_role);
    end if;
  end loop;

  if (select rolsuper from pg_roles where rolname = 'postgres') then
    raise exception 'the role postgres is the superuser of this cluster'
      using hint = 'Initialise the cluster with another bootstrap superuser: initdb --username=supabase_admin.';
  end if;
end
$platform$;

alter role postgres with login nosuperuser createdb createrole replication bypassrls;
alter role anon with nologin noinherit nobypassrls;
alter role authenticated with nologin noinherit nobypassrls;
alter role service_role with nologin noinherit bypassrls;
alter role authenticator with login noinherit nobypassrls;
alter role dashboard_user with nologin createdb createrole replication;

grant anon, authenticated, service_role to authenticator;
grant anon, authenticated, service_role, authenticator to postgres with admin option;
grant pg_read_all_data, pg_signal_backend, pg_monitor to postgres;

-- The platform's own limits: a request of a client may not hold the database longer than this.
alter role anon set statement_timeout = '3s';
alter role authenticated set statement_timeout = '8s';
alter role authenticator set statement_timeout = '8s';
alter role postgres set statement_timeout = '2min';

do $platform$
begin
  execute format('alter database %I owner to postgres', current_database());
  execute format('alter database %I set search_path = "$user", public, extensions', current_database());
end
$platform$;

alter schema public owner to postgres;
grant usage on schema public to anon, authenticated, service_role;

create schema if not exists extensions;
alter schema extensions owner to postgres;
grant usage on schema extensions to anon, authenticated, service_role;

-- The platform hands every new object of schema public to the API's roles. The same here, so that a project that forgets
-- row-level security is as open in a test as it would be in production.
alter default privileges for role postgres in schema public grant all on tables to postgres, anon, authenticated, service_role;
alter default privileges for role postgres in schema public grant all on functions to postgres, anon, authenticated, service_role;
alter default privileges for role postgres in schema public grant all on sequences to postgres, anon, authenticated, service_role;

do $platform$
declare
  v_extension text;
begin
  -- Where the server carries them: a build without contrib has none, and no migration of ours needs one.
  foreach v_extension in array array['pgcrypto', 'uuid-ossp', 'pg_stat_statements'] loop
    if exists (select from pg_available_extensions where name = v_extension) then
      execute format('create extension if not exists %I with schema extensions', v_extension);
    end if;
  end loop;
end
$platform$;

-- What policies ask: who is calling.
create schema if not exists auth;
grant usage on schema auth to anon, authenticated, service_role, postgres;

create or replace function auth.jwt() returns jsonb language sql stable set search_path = '' as
  $$ select coalesce(nullif(current_setting('request.jwt.claims', true), ''), '{}')::jsonb $$;
create or replace function auth.uid() returns uuid language sql stable set search_path = '' as
  $$ select (auth.jwt() ->> 'sub')::uuid $$;
create or replace function auth.role() returns text language sql stable set search_path = '' as
  $$ select auth.jwt() ->> 'role' $$;

do $platform$
begin
  if not exists (select from pg_publication where pubname = 'supabase_realtime') then
    create publication supabase_realtime;
  end if;
end
$platform$;
alter publication supabase_realtime owner to postgres;

-- ------------------------------------------------------------------------------------------------------- storage
-- Its tables as the platform has them. Whoever asks the service asks under the role of the token: policies decide.
do $platform$
begin
  if to_regrole('supabase_storage_admin') is null then
    create role supabase_storage_admin noinherit nologin;
  end if;
end
$platform$;
-- On the platform postgres may make policies on these tables and write into them, though it does not own them.
grant supabase_storage_admin to postgres;

create schema if not exists storage authorization supabase_storage_admin;
grant usage on schema storage to postgres, anon, authenticated, service_role;

create table if not exists storage.buckets (
  id text primary key,
  name text not null,
  owner uuid,
  created_at timestamptz default now(),
  updated_at timestamptz default now(),
  public boolean default false,
  avif_autodetection boolean default false,
  file_size_limit bigint,
  allowed_mime_types text[],
  owner_id text
);
create unique index if not exists bname on storage.buckets (name);

create table if not exists storage.objects (
  id uuid primary key default gen_random_uuid(),
  bucket_id text references storage.buckets (id),
  name text,
  owner uuid,
  created_at timestamptz default now(),
  updated_at timestamptz default now(),
  last_accessed_at timestamptz default now(),
  metadata jsonb,
  path_tokens text[] generated always as (string_to_array(name, '/')) stored,
  version text,
  owner_id text,
  user_metadata jsonb
);
create unique index if not exists bucketid_objname on storage.objects (bucket_id, name);
create index if not exists name_prefix_search on storage.objects (name text_pattern_ops);

alter table storage.buckets owner to supabase_storage_admin;
alter table storage.objects owner to supabase_storage_admin;
alter table storage.buckets enable row level security;
alter table storage.objects enable row level security;
grant all on storage.buckets, storage.objects to postgres, anon, authenticated, service_role;

-- What policies ask of an object's name.
create or replace function storage.foldername(name text) returns text[] language sql immutable set search_path = '' as
  $$ select (string_to_array(name, '/'))[1 : cardinality(string_to_array(name, '/')) - 1] $$;
create or replace function storage.filename(name text) returns text language sql immutable set search_path = '' as
  $$ select (string_to_array(name, '/'))[cardinality(string_to_array(name, '/'))] $$;
create or replace function storage.extension(name text) returns text language sql immutable set search_path = '' as
  $$ select reverse(split_part(reverse(storage.filename(name)), '.', 1)) $$;
alter function storage.foldername(text) owner to supabase_storage_admin;
alter function storage.filename(text) owner to supabase_storage_admin;
alter function storage.extension(text) owner to supabase_storage_admin;

-- What the policies of private channels are written for. It stays empty: a row is put in, looked at, and taken back.
create schema if not exists realtime;
alter schema realtime owner to postgres;
grant usage on schema realtime to anon, authenticated, service_role;

create table if not exists realtime.messages (
  id uuid not null default gen_random_uuid(),
  topic text not null,
  extension text not null,
  event text,
  payload jsonb,
  private boolean default false,
  inserted_at timestamp not null default now(),
  updated_at timestamp not null default now(),
  primary key (id, inserted_at)
);
alter table realtime.messages owner to postgres;
alter table realtime.messages enable row level security;
grant select, insert on realtime.messages to anon, authenticated, service_role;

create or replace function realtime.topic() returns text language sql stable set search_path = '' as
  $$ select nullif(current_setting('realtime.topic', true), '') $$;
alter function realtime.topic() owner to postgres;
