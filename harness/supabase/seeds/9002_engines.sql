-- Handlers: an event of a project or a task finds the planned one that it is.
insert into odoo.event_handlers (event_type, handler, description) values
  ('project.project.*', 'odoo_seed.map_planned(odoo.webhook_events)', 'Maps a project of Odoo to the planned one that its x_external_ref names.'),
  ('project.task.*', 'odoo_seed.map_planned(odoo.webhook_events)', 'Maps a task of Odoo to the planned one that its x_external_ref names.')
on conflict (event_type, handler) do update set description = excluded.description
  where event_handlers.description is distinct from excluded.description;
