-- The way back of 20260101000531_odoo_catalog_requests.sql.
drop function catalog.wrong_in(text, jsonb);
drop function catalog.request(text, uuid, text, text, timestamptz);
