-- What this project itself is made of, as assets, and what its catalog can do, as tools for an agent. A tool is called by a
-- signed POST of {"action": …, …arguments} to its function.

do $assets$
declare
  v_asset record;
  v_verdict text;
begin
  for v_asset in
    select * from (values
      ('bridge.odoo.server', 'application', 'Odoo CE 19', 'The ERP: the source of everything here.'),
      ('bridge.odoo.outbox', 'table', 'ipai_bridge.outbox', 'In Odoo''s own PostgreSQL: events, written in the business transaction.'),
      ('bridge.odoo.relay', 'process', 'ipai-bridge relay', 'Signs and delivers what the outbox holds, in order.'),
      ('bridge.functions.odoo_webhook', 'edge_function', 'odoo-webhook', 'Receives events.'),
      ('bridge.functions.shadow_odoo_finance', 'edge_function', 'shadow-odoo-finance', 'Receives projects and tasks.'),
      ('bridge.functions.sync_odoo_modules', 'edge_function', 'sync-odoo-modules', 'Receives the inventory of modules.'),
      ('bridge.functions.sync_documents', 'edge_function', 'sync-documents', 'Receives BIR forms.'),
      ('bridge.functions.catalog_sync', 'edge_function', 'catalog-sync', 'Receives Odoo''s models, and answers what the catalog knows.'),
      ('bridge.functions.realtime_sync', 'edge_function', 'realtime-sync', 'Tells subscribers what changed.'),
      ('bridge.supabase.catalog', 'schema', 'catalog', 'Assets, lineage, tools, permissions.'),
      ('bridge.supabase.channel', 'channel', 'odoo-sync', 'The Realtime channel of changes.'),
      ('bridge.storage.documents', 'bucket', 'documents', 'The private bucket of BIR forms.')
    ) as a (fqdn, type, title, description)
  loop
    v_verdict := (select r.verdict from catalog.register_asset(v_asset.fqdn, v_asset.type, v_asset.title,
      jsonb_build_object('description', v_asset.description)) r);
    if v_verdict <> 'accepted' then
      raise exception '% was not registered: %', v_asset.fqdn, v_verdict;
    end if;
  end loop;
end
$assets$;

select catalog.register_tool('catalog.' || t.action, t.description, jsonb_build_object('type', 'object', 'additionalProperties', false,
    'properties', t.properties, 'required', t.required), t.answer, 'bridge.functions.catalog_sync',
  jsonb_build_object('function', 'catalog-sync', 'action', t.action))
from (values
  ('search_assets', 'Finds data by words, as in a web search: by name, title, description and fields.',
   '{"query": {"type": "string", "minLength": 1, "maxLength": 1000}, "type": {"type": "string"}, "within": {"type": "string", "description": "a FQDN, the first parts of one and .*, or *"}, "limit": {"type": "integer", "minimum": 1, "maximum": 100}}'::jsonb,
   '["query"]'::jsonb, '{"type": "object", "required": ["total", "assets"]}'::jsonb),
  ('get_tools', 'Lists the tools that there are: all, one by its name, or those of an asset.',
   '{"name": {"type": "string"}, "fqdn": {"type": "string"}}', '[]', '{"type": "object", "required": ["tools"]}'),
  ('get_lineage', 'Says what an asset comes from (up) and what comes of it (down).',
   '{"fqdn": {"type": "string"}, "direction": {"enum": ["up", "down", "both"]}, "depth": {"type": "integer", "minimum": 1, "maximum": 20}}',
   '["fqdn"]', '{"type": "object", "required": ["fqdn", "assets", "edges", "more"]}'),
  ('check_permission', 'Says whether somebody may do something with an asset, and by which grant.',
   '{"principals": {"type": "array", "items": {"type": "string"}, "maxItems": 100}, "operation": {"type": "string"}, "fqdn": {"type": "string"}}',
   '["principals", "operation", "fqdn"]', '{"type": "object", "required": ["allowed", "reason"]}'),
  ('register_asset', 'Registers a set of data of a system that no sync keeps, or brings it up to date.',
   '{"fqdn": {"type": "string"}, "type": {"type": "string"}, "title": {"type": "string"}, "metadata": {"type": "object"}}',
   '["fqdn", "type"]', '{"type": "object", "required": ["fqdn", "outcome"]}'),
  ('sync_scout_views', 'Makes the catalog equal to the tables and views of this database.',
   '{}', '[]', '{"type": "object", "required": ["inserted", "updated", "archived"]}')
) as t (action, description, properties, required, answer);
