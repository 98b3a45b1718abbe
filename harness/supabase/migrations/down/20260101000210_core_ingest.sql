drop function odoo.ingest_event(text, uuid, bigint, text, text, timestamptz);
drop function odoo.aggregate_lock(text, bigint, text, text);
