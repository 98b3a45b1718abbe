-- The way back of 20260101000530_odoo_catalog.sql.
drop function catalog.refresh_lineage(bigint);
drop function catalog.event_types(bigint);
drop index odoo.webhook_events_types;
drop function catalog.archive_models(bigint, bigint, bigint, int8multirange);
drop function catalog.store_models(bigint, jsonb);
drop function catalog.name_database(bigint, text);
drop table catalog.databases;
