-- Layer auth: what a signed-in person may see, as their token says.
--
-- The token's app_metadata is written with the service role's key only, never by the person: {"ipai_permissions":
-- ["events:read", "shadow:read", "catalog:read", "documents:read"]}. The policies of the later layers ask access.permits.

create schema if not exists access;
comment on schema access is 'Who may see what: asked by the policies of every layer.';
revoke all on schema access from public, anon, authenticated;
grant usage on schema access to authenticated, service_role;

create function access.permits(p_permission text) returns boolean
language sql stable set search_path = '' as $$
  select coalesce(auth.jwt() -> 'app_metadata' -> 'ipai_permissions' ? p_permission, false)
$$;
comment on function access.permits(text) is
  'Whether the caller''s token holds this permission: in app_metadata.ipai_permissions, a JSON array. Policies write it as (select access.permits(…)): asked once a statement, not once a row.';
revoke execute on function access.permits(text) from public, anon, authenticated;
grant execute on function access.permits(text) to authenticated, service_role;
