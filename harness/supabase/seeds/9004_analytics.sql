-- The revenue that is planned for 2026, a month at a time: scout_gold.v_revenue_against_target shows what came of it.
insert into scout_gold.revenue_targets (instance_id, month, currency, target)
select i.id, make_date(2026, m, 1), 'PHP', 1000000 from odoo.instances i, generate_series(1, 12) m where i.name = 'default'
on conflict (instance_id, month, currency) do update set target = excluded.target where revenue_targets.target is distinct from excluded.target;
