-- The way back of 20260101000300_erp_documents.sql. The bucket goes only if it is empty: tax documents are not removed by a migration.
do $storage$
begin
  if to_regclass('storage.objects') is null then
    return;
  end if;
  execute 'drop policy if exists documents_read on storage.objects';
  -- The platform asks for this before a row of its storage is deleted by SQL.
  perform set_config('storage.allow_delete_query', 'true', true);
  delete from storage.buckets b where b.id = 'documents' and not exists (select from storage.objects o where o.bucket_id = b.id);
  if not found then
    raise notice 'the bucket documents stays: it holds documents';
  end if;
end
$storage$;
drop function erp.remove_documents(bigint, bigint, bigint, int8multirange);
drop function erp.pending_documents(bigint);
drop function erp.confirm_documents(bigint, jsonb);
drop function erp.wanted_documents(bigint, jsonb);
drop function erp.store_documents(bigint, jsonb);
drop function erp.place_document(integer, text, text, text, text, bigint, text);
drop function erp.check_objects(text[]);
drop function erp.object_state(text, bigint, text);
drop table erp.documents;
drop table erp.document_objects;
drop table erp.bir_forms;
drop schema erp;
