-- What people call things, and what Odoo does: by these a search in plain words finds the model (catalog.search_assets).
insert into catalog.glossary (term, means) values
  ('bill', '"account move"'),
  ('customer', '"res partner"'),
  ('employee', '"res users"'),
  ('invoice', '"account move"'),
  ('tax return', 'bir'),
  ('to-do', '"project task"'),
  ('turnover', 'revenue'),
  ('vendor', '"res partner"')
on conflict (term) do update set means = excluded.means where glossary.means is distinct from excluded.means;
