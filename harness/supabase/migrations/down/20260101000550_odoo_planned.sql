drop function odoo_seed.map_planned(odoo.webhook_events);
