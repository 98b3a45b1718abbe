drop function odoo.sweep_events(interval, integer);
drop function odoo.process_events(bigint[]);
drop function odoo.process_event(bigint);
drop function odoo.process_aggregate(bigint, text, text, integer);
drop function odoo.retry_delay(integer);
