-- The Edge Function catalog-sync as one SQL function: every action, by name, with what it is given looked at.

create function catalog.request(
  p_instance text, p_key uuid, p_body text, p_signature text, p_signed_at timestamptz, out verdict text, out answer jsonb
)
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_body jsonb := p_body::jsonb;
  v_action text := v_body ->> 'action';
  v_wrong text;
begin
  if v_action = 'sync_odoo_models' then
    select r.verdict, r.answer into verdict, answer
    from odoo_seed.sync_request('catalog', p_instance, p_key,
      ((v_body - 'step') || jsonb_build_object('action', v_body -> 'step'))::text, p_signature, p_signed_at) r;
    return;
  end if;
  select a.verdict into verdict from odoo_seed.admit(p_instance, p_key, p_signature, p_signed_at) a;
  if verdict <> 'accepted' then
    return;
  end if;
  if v_action is null
    or v_action not in ('register_asset', 'sync_scout_views', 'search_assets', 'get_tools', 'get_lineage', 'check_permission')
  then
    verdict := 'unknown_action';
    return;
  end if;
  v_wrong := catalog.wrong_in(v_action, v_body);
  if v_wrong is not null then
    verdict := 'invalid_request';
    answer := jsonb_build_object('detail', v_wrong);
  elsif v_body ? 'fqdn' and not catalog.is_fqdn(v_body ->> 'fqdn') then
    verdict := 'invalid_fqdn';
  elsif v_action = 'register_asset' then
    select r.verdict, r.answer into verdict, answer
    from catalog.register_asset(v_body ->> 'fqdn', v_body ->> 'type', v_body ->> 'title', coalesce(v_body -> 'metadata', '{}')) r;
  elsif v_action = 'sync_scout_views' then
    answer := catalog.refresh();
  elsif v_action = 'search_assets' then
    answer := catalog.search_assets(v_body ->> 'query', v_body ->> 'type', coalesce(v_body ->> 'within', '*'),
      coalesce((v_body ->> 'limit')::integer, 20));
  elsif v_action = 'get_tools' then
    answer := catalog.get_tools(v_body ->> 'name', v_body ->> 'fqdn');
  elsif v_action = 'get_lineage' then
    answer := catalog.get_lineage(v_body ->> 'fqdn', coalesce(v_body ->> 'direction', 'both'), coalesce((v_body ->> 'depth')::integer, 5),
      (select array_agg(k) from jsonb_array_elements_text(v_body -> 'kinds') k));
    if answer is null then
      verdict := 'unknown_asset';
    end if;
  else
    answer := catalog.check_permission(
      array(select jsonb_array_elements_text(coalesce(v_body -> 'principals', '[]'))) || catalog.principals_of(coalesce(v_body -> 'claims', '{}')),
      v_body ->> 'operation', v_body ->> 'fqdn');
  end if;
end
$$;
comment on function catalog.request(text, uuid, text, text, timestamptz) is
  'One verified request to the catalog. verdict: accepted, replayed_signature, instance_inactive, unknown_action, invalid_request (answer.detail says what is wrong), invalid_fqdn, asset_reserved, unknown_asset, and those of odoo_seed.sync_request for sync_odoo_models; nothing but accepted has an effect. Raises class 22 for a body that is not JSON.';

create function catalog.wrong_in(p_action text, p_body jsonb) returns text
language plpgsql immutable set search_path = '' as $$
declare
  v_texts text[] := case p_action
    when 'register_asset' then array['fqdn', 'type', 'title?']
    when 'search_assets' then array['query', 'type?', 'within?']
    when 'get_tools' then array['name?', 'fqdn?']
    when 'get_lineage' then array['fqdn', 'direction?']
    when 'check_permission' then array['operation', 'fqdn']
    else '{}' end;
  v_numbers text[] := case p_action when 'search_assets' then array['limit', '100'] when 'get_lineage' then array['depth', '20'] end;
  v_text text;
  v_name text;
begin
  foreach v_text in array v_texts loop
    v_name := rtrim(v_text, '?');
    if not (v_text <> v_name and not p_body ? v_name)
      and (jsonb_typeof(p_body -> v_name) is distinct from 'string' or length(p_body ->> v_name) not between 1 and 1000)
    then
      return v_name || ' must be text of 1 to 1,000 characters';
    end if;
  end loop;
  if p_body ? v_numbers[1] and (jsonb_typeof(p_body -> v_numbers[1]) <> 'number'
    or p_body ->> v_numbers[1] !~ '^[1-9][0-9]{0,2}$' or (p_body ->> v_numbers[1])::integer > v_numbers[2]::integer)
  then
    return v_numbers[1] || ' must be an integer from 1 to ' || v_numbers[2];
  end if;
  if p_action = 'register_asset' and jsonb_typeof(coalesce(p_body -> 'metadata', '{}')) <> 'object' then
    return 'metadata must be an object';
  elsif p_action = 'register_asset' and p_body ->> 'type' !~ '^[a-z][a-z0-9_]{0,99}$' then
    return 'type must be a lower-case word of at most 100 characters';
  elsif p_action = 'search_assets' and not catalog.is_pattern(coalesce(p_body ->> 'within', '*')) then
    return 'within must be a FQDN, the first parts of one and .*, or *';
  elsif p_action = 'get_lineage' and coalesce(p_body ->> 'direction', 'both') not in ('up', 'down', 'both') then
    return 'direction must be up, down or both';
  elsif p_action = 'get_lineage' and p_body ? 'kinds' and (jsonb_typeof(p_body -> 'kinds') <> 'array'
    or not p_body -> 'kinds' <@ '["emits", "stored_in", "synced_to", "verified_by", "read_by", "flows_to", "refers_to"]' or p_body -> 'kinds' = '[]')
  then
    return 'kinds must be an array of emits, stored_in, synced_to, verified_by, read_by, flows_to, refers_to';
  elsif p_action = 'check_permission' and not (p_body ? 'principals' or p_body ? 'claims') then
    return 'principals or claims are required';
  elsif p_action = 'check_permission' and (jsonb_typeof(coalesce(p_body -> 'principals', '[]')) <> 'array'
    or jsonb_array_length(coalesce(p_body -> 'principals', '[]')) > 100
    or jsonb_path_exists(coalesce(p_body -> 'principals', '[]'), 'strict $[*] ? (@.type() != "string")'))
  then
    return 'principals must be an array of at most 100 texts';
  elsif p_action = 'check_permission' and jsonb_typeof(coalesce(p_body -> 'claims', '{}')) <> 'object' then
    return 'claims must be an object: those of a verified token';
  end if;
  return null;
end
$$;
comment on function catalog.wrong_in(text, jsonb) is 'What is wrong in a request of this action, in words that repeat nothing of it; null: nothing.';

revoke execute on function catalog.request(text, uuid, text, text, timestamptz) from public, anon, authenticated;
revoke execute on function catalog.wrong_in(text, jsonb) from public, anon, authenticated;
grant execute on function catalog.request(text, uuid, text, text, timestamptz) to service_role;
