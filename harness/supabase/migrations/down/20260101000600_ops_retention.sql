drop function ops.refresh_views();
drop table ops.refreshes;
drop function ops.prune(integer);
drop index odoo_seed.tombstones_age;
drop index odoo.webhook_events_age;
drop table ops.retention;
drop schema ops;
