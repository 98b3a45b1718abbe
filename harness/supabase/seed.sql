-- Data of a local or harness project; may be applied again. The webhook path needs none of it: an instance registers
-- itself by its first signed event.
insert into odoo.instances (name, base_url, config) values ('default', 'http://localhost:8069', '{"seeded": true}')
on conflict (name) do nothing;
