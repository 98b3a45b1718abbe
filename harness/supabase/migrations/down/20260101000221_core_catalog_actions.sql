-- The way back of 20260101000221_core_catalog_actions.sql.
drop function catalog.check_permission(text[], text, text);
drop function catalog.principals_of(jsonb);
drop function catalog.get_lineage(text, text, integer, text[]);
drop function catalog.get_tools(text, text);
drop function catalog.search_assets(text, text, text, integer);
drop function catalog.words_of(text);
drop table catalog.glossary;
drop function catalog.register_tool(text, text, jsonb, jsonb, text, jsonb, boolean);
drop function catalog.register_asset(text, text, text, jsonb);
drop function catalog.put_edges(text[], bigint, jsonb);
drop function catalog.put_assets(jsonb);
