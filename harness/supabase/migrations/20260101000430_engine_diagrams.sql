-- Architecture diagrams of draw.io in the catalog: what is drawn is looked up, and what is connected is lineage.
--
-- In the file a node is an <object> with an attribute fqdn (in draw.io: Edit Data), a connection an <mxCell edge="1"> with
-- source and target. The diagram cannot say what is not so: a node without an asset is refused.

create function catalog.diagram_attribute(p_element text, p_name text) returns text
language sql immutable strict parallel safe set search_path = '' as $$
  select substring(p_element from '\s' || p_name || '="([^"]*)"')
$$;
comment on function catalog.diagram_attribute(text, text) is 'An attribute of an element of a diagram; null: it has none. Names and ids hold nothing that XML escapes.';

create function catalog.put_diagram(p_fqdn text, p_title text, p_description text, p_drawio text) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_nodes jsonb;
  v_edges jsonb;
  v_missing text;
  v_registered record;
  v_added bigint;
  v_removed bigint;
begin
  select coalesce(jsonb_object_agg(catalog.diagram_attribute(e[1], 'id'), catalog.diagram_attribute(e[1], 'fqdn')), '{}') into v_nodes
  from regexp_matches(p_drawio, '<object\M[^>]*>', 'g') e where catalog.diagram_attribute(e[1], 'fqdn') is not null;
  select string_agg(n.value, ', ' order by n.value) into v_missing from jsonb_each_text(v_nodes) n
  where not exists (select from catalog.assets a where a.fqdn = n.value and a.archived_at is null);
  if v_missing is not null or v_nodes = '{}' then
    raise exception 'a node of the diagram is no asset of the catalog: %', coalesce(v_missing, 'it has no node')
      using errcode = 'foreign_key_violation';
  end if;
  select coalesce(jsonb_agg(distinct jsonb_build_object('from_fqdn', v_nodes ->> x.source, 'to_fqdn', v_nodes ->> x.target)), '[]') into v_edges
  from regexp_matches(p_drawio, '<mxCell\M[^>]*>', 'g') e
  cross join lateral (select catalog.diagram_attribute(e[1], 'source') as source, catalog.diagram_attribute(e[1], 'target') as target) x
  where catalog.diagram_attribute(e[1], 'edge') = '1' and v_nodes ? x.source and v_nodes ? x.target and x.source <> x.target;

  select r.verdict, r.answer into v_registered from catalog.register_asset(p_fqdn, 'diagram', p_title,
    jsonb_build_object('description', p_description, 'drawio', p_drawio, 'nodes', v_nodes)) r;
  if v_registered.verdict <> 'accepted' then
    raise exception 'the diagram cannot be registered: %', v_registered.verdict using errcode = 'invalid_parameter_value';
  end if;
  delete from catalog.lineage_edges e
  where e.kind = 'flows_to' and e.details ->> 'diagram' = p_fqdn
    and not exists (select from jsonb_array_elements(v_edges) n where n ->> 'from_fqdn' = e.from_fqdn and n ->> 'to_fqdn' = e.to_fqdn);
  get diagnostics v_removed = row_count;
  insert into catalog.lineage_edges (from_fqdn, to_fqdn, kind, details)
  select n ->> 'from_fqdn', n ->> 'to_fqdn', 'flows_to', jsonb_build_object('diagram', p_fqdn) from jsonb_array_elements(v_edges) n
  -- What another diagram shows as well stays that one's.
  on conflict on constraint lineage_edges_once do nothing;
  get diagnostics v_added = row_count;
  return v_registered.answer || jsonb_build_object('edges_added', v_added, 'edges_removed', v_removed);
end
$$;
comment on function catalog.put_diagram(text, text, text, text) is
  'Registers a draw.io file as an asset, and its connections as lineage (flows_to); what it showed before and shows no more is deleted. Raises 23503 when a node is no active asset.';

revoke execute on function catalog.diagram_attribute(text, text), catalog.put_diagram(text, text, text, text) from public, anon, authenticated;
grant execute on function catalog.put_diagram(text, text, text, text) to service_role;
