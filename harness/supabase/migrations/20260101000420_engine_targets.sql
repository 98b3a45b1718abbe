-- What was to be earned, beside what was: the planner writes targets, analysts read the difference.

create table scout_gold.revenue_targets (
  instance_id bigint not null references odoo.instances (id),
  month date not null
    constraint revenue_targets_month_first check (month = date_trunc('month', month)),
  currency text not null
    constraint revenue_targets_currency_form check (length(currency) between 1 and 50),
  target numeric not null
    constraint revenue_targets_target_positive check (target > 0),
  primary key (instance_id, month, currency)
);
comment on table scout_gold.revenue_targets is 'Which revenue is planned, by month and currency. Written by who plans.';
comment on column scout_gold.revenue_targets.month is 'Its first day.';
comment on column scout_gold.revenue_targets.currency is 'As Odoo names it: PHP.';

create view scout_gold.v_revenue_against_target with (security_invoker = true) as
  select coalesce(r.instance, n.name) as instance, coalesce(r.month, t.month) as month, coalesce(r.currency, t.currency) as currency,
    coalesce(r.revenue, 0) as revenue, t.target, round(100 * coalesce(r.revenue, 0) / t.target, 1) as percent
  from scout_gold.v_revenue_summary r
  full join (scout_gold.revenue_targets t join odoo.instances n on n.id = t.instance_id)
    on n.name = r.instance and t.month = r.month and t.currency = r.currency;
comment on view scout_gold.v_revenue_against_target is 'Revenue by month and currency beside its target: also months without revenue, and revenue without a target.';
comment on column scout_gold.v_revenue_against_target.percent is 'Of the target; null where there is none.';

alter table scout_gold.revenue_targets enable row level security;
revoke all on scout_gold.revenue_targets, scout_gold.v_revenue_against_target from public, anon, authenticated;
grant select, insert, update, delete on scout_gold.revenue_targets to service_role;
grant select on scout_gold.v_revenue_against_target to service_role;
