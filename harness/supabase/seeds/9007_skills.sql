-- Skills: what an agent can do in several steps. Each is a tool whose steps are tools, and an asset, so that
-- catalog.check_permission says who may execute it. {{name}} stands for an argument of the skill.

do $skills$
declare
  v_skill record;
  v_verdict text;
begin
  for v_skill in
    select * from (values
      ('explain_figure', 'Explain a figure', 'Finds the data that a question is about, and what it is made of.',
       '{"question": {"type": "string"}, "fqdn": {"type": "string"}}'::jsonb,
       '[{"tool": "catalog.search_assets", "arguments": {"query": "{{question}}"}}, {"tool": "catalog.get_lineage", "arguments": {"fqdn": "{{fqdn}}", "direction": "up", "depth": 20}}]'::jsonb),
      ('trace_impact', 'Trace the impact of a change', 'Says what depends on an asset that is to be changed.',
       '{"fqdn": {"type": "string"}}',
       '[{"tool": "catalog.get_lineage", "arguments": {"fqdn": "{{fqdn}}", "direction": "down", "depth": 20}}]'),
      ('publish_data', 'Publish a set of data', 'Registers data of another system, and shows who may read it.',
       '{"fqdn": {"type": "string"}, "type": {"type": "string"}, "reader": {"type": "string"}}',
       '[{"tool": "catalog.register_asset", "arguments": {"fqdn": "{{fqdn}}", "type": "{{type}}"}}, {"tool": "catalog.check_permission", "arguments": {"principals": ["{{reader}}"], "operation": "read", "fqdn": "{{fqdn}}"}}]')
    ) as s (name, title, description, properties, steps)
  loop
    v_verdict := (select r.verdict from catalog.register_asset('skill.ipai.' || v_skill.name, 'skill', v_skill.title,
      jsonb_build_object('description', v_skill.description)) r);
    if v_verdict <> 'accepted' then
      raise exception 'the skill % was not registered: %', v_skill.name, v_verdict;
    end if;
    perform catalog.register_tool('skill.' || v_skill.name, v_skill.description, jsonb_build_object('type', 'object',
        'additionalProperties', false, 'properties', v_skill.properties, 'required', (select jsonb_agg(k order by k) from jsonb_object_keys(v_skill.properties) k)),
      '{"type": "object"}', 'skill.ipai.' || v_skill.name, jsonb_build_object('steps', v_skill.steps));
  end loop;
end
$skills$;

-- Who may: by the permissions that their token holds.
insert into catalog.permissions (principal, operation, pattern) values
  ('claim:catalog:read', 'read', '*'),
  ('claim:catalog:read', 'execute', 'skill.ipai.explain_figure'),
  ('claim:catalog:read', 'execute', 'skill.ipai.trace_impact'),
  ('role:service_role', 'execute', 'skill.ipai.*')
on conflict (principal, operation, pattern) do nothing;
