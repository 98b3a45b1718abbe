-- The Odoo of this machine: what the parts after this one are about. (An Odoo that sends registers itself, too.)
insert into odoo.instances (name, base_url, config) values ('default', 'http://localhost:8069', '{"seeded": true}')
on conflict (name) do nothing;
