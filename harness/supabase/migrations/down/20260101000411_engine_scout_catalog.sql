-- The way back of 20260101000411_engine_scout_catalog.sql.
drop function catalog.sync_scout_views();
drop function catalog.view_sources();
drop function catalog.shadow_tables();
drop function catalog.relation_fqdn(text, text);
