-- The way back of 20260101000220_core_catalog.sql.
drop table catalog.permissions, catalog.tools, catalog.lineage_edges, catalog.assets;
drop function catalog.cut_edges();
drop function catalog.search_vector(text, text, jsonb);
drop function catalog.fold(text);
drop function catalog.matches(text, text);
drop function catalog.is_pattern(text);
drop function catalog.is_fqdn(text);
drop schema catalog;
