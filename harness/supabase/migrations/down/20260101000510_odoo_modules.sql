drop function odoo.remove_modules(bigint, bigint, bigint, int8multirange);
drop function odoo.store_modules(bigint, jsonb);
drop table odoo.modules;
