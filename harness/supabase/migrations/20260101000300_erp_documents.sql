-- Documents: BIR forms that are attached in Odoo, and the objects in the storage that hold their content.
--
--   a document's path ─▶ its object:  wanted ─▶ stored      once the storage really has an object of that size and hash
--                                     wanted ◀─ stored      if it has none any more: the next run uploads it again
--
-- An object is never overwritten and never removed: a content that differs gets a path of its own, and what is deleted in
-- Odoo is only marked so. Tax documents are kept.

create schema if not exists erp;
comment on schema erp is 'What the ERP is about: BIR forms (Philippine tax forms), and the documents that were filed.';
revoke all on schema erp from public, anon, authenticated;
grant usage on schema erp to authenticated, service_role;

create table erp.bir_forms (
  code text primary key
    constraint bir_forms_code_form check (code ~ '^[0-9]{4}[A-Z]?(-[A-Z0-9]{1,4})?$'),
  title text not null
    constraint bir_forms_title_form check (length(title) between 1 and 300),
  frequency text not null
    constraint bir_forms_frequency_form check (frequency ~ '^[a-z][a-z -]{2,39}$')
);
comment on table erp.bir_forms is 'The forms of the Bureau of Internal Revenue that are known by name. A document of another form is taken all the same.';
comment on column erp.bir_forms.frequency is 'How often it is filed: monthly, quarterly, annual …';

create table erp.document_objects (
  path text primary key
    constraint document_objects_path_form
      check (path ~ '^bir/20[0-9]{2}/[0-9]{4}[A-Z]?(-[A-Z0-9]{1,4})?/[A-Za-z0-9_(]([A-Za-z0-9_ ().+-]{0,198}[A-Za-z0-9_)])?$'
        and path !~ '\.\.'),
  sha256 text not null
    constraint document_objects_sha256_form check (sha256 ~ '^[0-9a-f]{64}$'),
  md5 text not null
    constraint document_objects_md5_form check (md5 ~ '^[0-9a-f]{32}$'),
  size bigint not null
    constraint document_objects_size_positive check (size > 0),
  mimetype text not null
    constraint document_objects_mimetype_form check (mimetype ~ '^[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,99}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,99}$'),
  status text not null default 'wanted'
    constraint document_objects_status_known check (status in ('wanted', 'stored')),
  wanted_at timestamptz not null default clock_timestamp(),
  stored_at timestamptz,
  constraint document_objects_stored_when check ((status = 'stored') = (stored_at is not null))
);
comment on table erp.document_objects is 'Every object of the bucket documents that is, or is to be: its path, and the content that stands there for good.';
comment on column erp.document_objects.md5 is 'What the storage''s own eTag is compared with, where that is the hash of the whole.';
comment on column erp.document_objects.status is 'wanted: its content is still to come. stored: the storage has it, by size and by hash.';
-- Two names that differ in their case alone would be one file wherever the bucket is copied to.
create unique index document_objects_any_case on erp.document_objects (lower(path));
create index document_objects_wanted on erp.document_objects (path) where status = 'wanted';

create table erp.documents (
  instance_id bigint not null references odoo.instances (id),
  odoo_id bigint not null
    constraint documents_odoo_id_positive check (odoo_id > 0),
  name text not null,
  form_type text not null
    constraint documents_form_type_form check (form_type ~ '^[0-9]{4}[A-Z]?(-[A-Z0-9]{1,4})?$'),
  year smallint not null
    constraint documents_year_form check (year between 2000 and 2099),
  path text not null references erp.document_objects (path),
  res_model text,
  res_id bigint,
  first_seen timestamptz not null default clock_timestamp(),
  changed_at timestamptz not null default clock_timestamp(),
  gone_at timestamptz,
  primary key (instance_id, odoo_id)
);
comment on table erp.documents is 'Every attachment of Odoo that is a BIR form, and the object that holds its content: several may share one.';
comment on column erp.documents.name is 'As it is named in Odoo now; the path keeps the name under which the content came.';
comment on column erp.documents.path is 'In the bucket documents: bir/{year}/{form_type}/{filename}.';
comment on column erp.documents.res_model is 'The model of the record that it is attached to, with res_id; null: to none.';
comment on column erp.documents.gone_at is 'When it was first seen not to be in Odoo any more, or not to be a BIR form. Its object stays.';
create index documents_path on erp.documents (path);
create index documents_form on erp.documents (form_type, year);

-- -------------------------------------------------------------------------------------------------------- the storage
create function erp.object_state(p_path text, p_size bigint, p_md5 text) returns text
language plpgsql stable security definer set search_path = '' as $$
declare
  v_found jsonb;
begin
  if to_regclass('storage.objects') is null then
    return 'none';
  end if;
  select coalesce(o.metadata, '{}') into v_found from storage.objects o where o.bucket_id = 'documents' and o.name = p_path;
  return case
    when v_found is null then 'none'
    when (v_found ->> 'size') is distinct from p_size::text then 'other'
    -- Of what came in several parts, the eTag is another hash: then the size has to do.
    when trim(both '"' from v_found ->> 'eTag') ~ '^[0-9a-f]{32}$' and trim(both '"' from v_found ->> 'eTag') <> p_md5 then 'other'
    else 'same' end;
end
$$;
comment on function erp.object_state(text, bigint, text) is 'What the storage has at a path: none, same (this content, by size and by hash), or other.';

create function erp.check_objects(p_paths text[]) returns void
language sql volatile security definer set search_path = '' as $$
  with seen as (
    select o.path, erp.object_state(o.path, o.size, o.md5) = 'same' as there
    from erp.document_objects o where o.path = any (p_paths)
    order by o.path
    for update
  )
  update erp.document_objects o
  set status = case when s.there then 'stored' else 'wanted' end, stored_at = case when s.there then clock_timestamp() end
  from seen s
  where o.path = s.path and (o.status = 'stored') <> s.there
$$;
comment on function erp.check_objects(text[]) is 'Makes the status of these objects what the storage says of them.';

create function erp.place_document(
  p_year integer, p_form_type text, p_filename text, p_sha256 text, p_md5 text, p_size bigint, p_mimetype text
) returns text
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_extension text := coalesce(substring(p_filename from '\.[A-Za-z0-9]{1,10}$'), '');
  v_suffix text;
  v_path text;
  v_found text;
begin
  foreach v_suffix in array array['', '-' || left(p_sha256, 12), '-' || p_sha256] loop
    v_path := format('bir/%s/%s/%s', p_year, p_form_type,
      left(p_filename, length(p_filename) - length(v_extension)) || v_suffix || v_extension);
    select o.path into v_found from erp.document_objects o where lower(o.path) = lower(v_path);
    -- What somebody else put into the bucket is not ours to overwrite.
    continue when v_found is null and erp.object_state(v_path, p_size, p_md5) = 'other';
    insert into erp.document_objects (path, sha256, md5, size, mimetype) values (v_path, p_sha256, p_md5, p_size, p_mimetype)
    on conflict do nothing;
    select o.path into v_found from erp.document_objects o where lower(o.path) = lower(v_path) and o.sha256 = p_sha256;
    if found then
      return v_found;
    end if;
  end loop;
  raise exception 'no path is free for this document' using errcode = 'unique_violation';
end
$$;
comment on function erp.place_document(integer, text, text, text, text, bigint, text) is
  'The path for a content: under its filename, or with the beginning of its hash added where another content has that name. Never the path of another content.';

-- ------------------------------------------------------------------------------------------------------------ the sync
create function erp.store_documents(p_instance_id bigint, p_rows jsonb) returns table (outcome text)
language plpgsql volatile security definer set search_path = '' as $$
#variable_conflict use_column
declare
  v_row record;
  v_path text;
begin
  if jsonb_array_length(p_rows) > 100 then
    raise exception 'at most 100 documents a page' using errcode = 'invalid_parameter_value';
  end if;
  for v_row in
    select distinct on (1) (r.raw ->> 'id')::bigint as odoo_id, left(r.raw ->> 'name', 500) as name, r.form_type, r.year, r.filename,
      r.sha256, r.md5, r.size, r.mimetype, r.raw ->> 'res_model' as res_model, nullif((r.raw ->> 'res_id')::bigint, 0) as res_id
    from jsonb_to_recordset(p_rows) as r
      (raw jsonb, form_type text, year integer, filename text, sha256 text, md5 text, size bigint, mimetype text)
  loop
    -- A new name for the same content of the same form and year moves nothing.
    select d.path into v_path from erp.documents d join erp.document_objects o on o.path = d.path
    where d.instance_id = p_instance_id and d.odoo_id = v_row.odoo_id and o.sha256 = v_row.sha256
      and d.form_type = v_row.form_type and d.year = v_row.year;
    if not found then
      v_path := erp.place_document(
        v_row.year, v_row.form_type, v_row.filename, v_row.sha256, v_row.md5, v_row.size, v_row.mimetype);
    end if;
    return query
    insert into erp.documents as d (instance_id, odoo_id, name, form_type, year, path, res_model, res_id)
    values (p_instance_id, v_row.odoo_id, v_row.name, v_row.form_type, v_row.year, v_path, v_row.res_model, v_row.res_id)
    on conflict (instance_id, odoo_id) do update
      set name = excluded.name, form_type = excluded.form_type, year = excluded.year, path = excluded.path,
          res_model = excluded.res_model, res_id = excluded.res_id, changed_at = excluded.changed_at, gone_at = null
      where (d.name, d.form_type, d.year, d.path, d.res_model, d.res_id, d.gone_at) is distinct from
        (excluded.name, excluded.form_type, excluded.year, excluded.path, excluded.res_model, excluded.res_id, null::timestamptz)
    returning case when d.xmax = 0 then 'inserted' else 'updated' end;
  end loop;
  perform erp.check_objects(array(select d.path from erp.documents d
    where d.instance_id = p_instance_id and d.odoo_id in (select (r -> 'raw' ->> 'id')::bigint from jsonb_array_elements(p_rows) r)));
end
$$;
comment on function erp.store_documents(bigint, jsonb) is
  'Stores a page of documents, each at the path of its content; answers inserted or updated for each that was written.';

create function erp.wanted_documents(p_instance_id bigint, p_rows jsonb) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_object('id', w.odoo_id, 'path', w.path) order by w.odoo_id), '[]')
  from (
    select distinct on (d.path) d.odoo_id, d.path
    from erp.documents d join erp.document_objects o on o.path = d.path and o.status = 'wanted'
    where d.instance_id = p_instance_id and d.odoo_id in (select (r -> 'raw' ->> 'id')::bigint from jsonb_array_elements(p_rows) r)
    order by d.path, d.odoo_id
  ) w
$$;
comment on function erp.wanted_documents(bigint, jsonb) is 'Which of a page''s documents are to be uploaded, and whereto: each path once.';

create function erp.confirm_documents(p_instance_id bigint, p_ids jsonb) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_ids bigint[] := array(select i::bigint from jsonb_array_elements_text(p_ids) i);
begin
  perform erp.check_objects(array(select d.path from erp.documents d where d.instance_id = p_instance_id and d.odoo_id = any (v_ids)));
  return (select jsonb_build_object(
      'stored', coalesce(jsonb_agg(i.id order by i.id) filter (where o.status = 'stored'), '[]'),
      'missing', coalesce(jsonb_agg(i.id order by i.id) filter (where o.status is distinct from 'stored'), '[]'))
    from unnest(v_ids) i (id)
    left join erp.documents d on d.instance_id = p_instance_id and d.odoo_id = i.id
    left join erp.document_objects o on o.path = d.path);
end
$$;
comment on function erp.confirm_documents(bigint, jsonb) is
  'Looks in the storage for the content of these documents: which of them it has (stored), and which not (missing).';

create function erp.pending_documents(p_instance_id bigint) returns setof bigint
language sql stable security definer set search_path = '' as $$
  select d.odoo_id from erp.document_objects o join erp.documents d on d.path = o.path
  where o.status = 'wanted' and d.instance_id = p_instance_id and d.gone_at is null
  order by 1
$$;
comment on function erp.pending_documents(bigint) is 'The documents that are in Odoo, and whose content is not in the storage.';

create function erp.remove_documents(p_instance_id bigint, p_after bigint, p_upto bigint, p_keep int8multirange) returns bigint
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_count bigint;
begin
  update erp.documents d set gone_at = clock_timestamp()
  where d.instance_id = p_instance_id and d.gone_at is null and d.odoo_id > p_after and (p_upto is null or d.odoo_id <= p_upto)
    and not d.odoo_id <@ p_keep;
  get diagnostics v_count = row_count;
  -- What the storage has lost meanwhile is wanted again.
  perform erp.check_objects(array(select d.path from erp.documents d
    where d.instance_id = p_instance_id and d.gone_at is null and d.odoo_id > p_after and (p_upto is null or d.odoo_id <= p_upto)));
  return v_count;
end
$$;
comment on function erp.remove_documents(bigint, bigint, bigint, int8multirange) is
  'Marks as gone the documents with ids after p_after, up to p_upto (null: all above), that are not in p_keep; how many. Their objects stay.';

-- ------------------------------------------------------------------------------------------------------------- access
do $access$
declare
  v_name text;
begin
  foreach v_name in array array['bir_forms', 'document_objects', 'documents'] loop
    execute format('alter table erp.%I enable row level security', v_name);
    execute format('revoke all on table erp.%I from public, anon, authenticated', v_name);
    execute format('grant select on table erp.%I to authenticated, service_role', v_name);
    execute format('create policy %I on erp.%I for select to authenticated using ((select access.permits(''documents:read'')))',
      v_name || '_read', v_name);
  end loop;
  grant insert, update, delete on erp.bir_forms to service_role;
  execute (select string_agg(format('revoke execute on function %s from public, anon, authenticated', p.oid::regprocedure), ';')
    from pg_catalog.pg_proc p where p.pronamespace = 'erp'::regnamespace);
end
$access$;

do $storage$
begin
  if to_regclass('storage.buckets') is null then
    raise notice 'there is no schema storage here: documents are registered, and stay wanted until there is one with a private bucket "documents"';
    return;
  end if;
  insert into storage.buckets (id, name, public) values ('documents', 'documents', false) on conflict (id) do nothing;
  if exists (select from storage.buckets b where b.id = 'documents' and b.public) then
    raise exception 'the bucket documents is public' using hint = 'Tax forms go there: make it private, or move what it holds elsewhere.';
  end if;
  -- Nothing else: who uploads holds a signed URL of the service, and nobody changes or removes.
  execute $policy$create policy documents_read on storage.objects for select to authenticated
    using (bucket_id = 'documents' and (select access.permits('documents:read')))$policy$;
end
$storage$;
