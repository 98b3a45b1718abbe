-- BIR forms (Philippine tax forms) of a VAT-registered corporation, and the calendar of its tax year as a project that should
-- be in Odoo: odoo_seed.v_missing_in_odoo says which filings nobody has planned there yet.

insert into erp.bir_forms (code, title, frequency) values
  ('0619-E', 'Monthly Remittance Form of Creditable Income Taxes Withheld (Expanded)', 'monthly'),
  ('1601-C', 'Monthly Remittance Return of Income Taxes Withheld on Compensation', 'monthly'),
  ('1601-EQ', 'Quarterly Remittance Return of Creditable Income Taxes Withheld (Expanded)', 'quarterly'),
  ('1604-C', 'Annual Information Return of Income Taxes Withheld on Compensation', 'annual'),
  ('1604-E', 'Annual Information Return of Creditable Income Taxes Withheld (Expanded)/Income Payments Exempt from Withholding Tax', 'annual'),
  ('1702-RT', 'Annual Income Tax Return for Corporation, Partnership and Other Non-Individual Taxpayer Subject Only to Regular Income Tax Rate', 'annual'),
  ('1702Q', 'Quarterly Income Tax Return for Corporations, Partnerships and Other Non-Individual Taxpayers', 'quarterly'),
  ('2307', 'Certificate of Creditable Tax Withheld at Source', 'quarterly'),
  ('2316', 'Certificate of Compensation Payment/Tax Withheld', 'annual'),
  ('2550Q', 'Quarterly Value-Added Tax Return', 'quarterly')
on conflict (code) do update set title = excluded.title, frequency = excluded.frequency
  where (bir_forms.title, bir_forms.frequency) is distinct from (excluded.title, excluded.frequency);

insert into odoo_seed.projects (instance_id, external_ref, name, details)
select i.id, 'bir.calendar_2026', 'BIR tax calendar 2026', '{"tax_year": 2026}' from odoo.instances i where i.name = 'default'
on conflict (instance_id, external_ref) do update set name = excluded.name, details = excluded.details
  where (projects.name, projects.details) is distinct from (excluded.name, excluded.details);

-- One task for each form and period. The references may be XML ids, too: bir.f1601_c_2026_m01.
insert into odoo_seed.tasks (instance_id, external_ref, project_external_ref, name, details)
with period as (
  select 'monthly' as frequency, m as number, format('m%s', to_char(m, 'FM00')) as label,
    (make_date(2026, m, 1) + interval '1 month - 1 day')::date as ends
  from generate_series(1, 12) m
  union all
  select 'quarterly', q, format('q%s', q), (make_date(2026, 3 * q - 2, 1) + interval '3 months - 1 day')::date from generate_series(1, 4) q
  union all
  select 'annual', 1, 'y', date '2026-12-31'
), filing as (
  select f.code, f.title, p.label, p.ends, case f.code
      -- In the first two months of a quarter; the third is in the quarterly return.
      when '0619-E' then case when p.number % 3 > 0 then p.ends + 10 end
      when '1601-C' then p.ends + case when p.number = 12 then 15 else 10 end
      when '1601-EQ' then (p.ends + interval '1 day' + interval '1 month - 1 day')::date
      when '1604-C' then date '2027-01-31'
      when '1604-E' then date '2027-03-01'
      when '1702-RT' then date '2027-04-15'
      -- The fourth quarter is in the annual return.
      when '1702Q' then case when p.number < 4 then p.ends + 60 end
      when '2307' then p.ends + 20
      when '2316' then date '2027-01-31'
      when '2550Q' then p.ends + 25 end as due
  from erp.bir_forms f join period p using (frequency)
)
select i.id, format('bir.f%s_2026_%s', lower(replace(f.code, '-', '_')), f.label), 'bir.calendar_2026',
  format('BIR %s for the period to %s', f.code, f.ends),
  jsonb_build_object('form', f.code, 'title', f.title, 'period_end', f.ends, 'due', f.due)
from filing f join odoo.instances i on i.name = 'default'
where f.due is not null
on conflict (instance_id, external_ref) do update
  set project_external_ref = excluded.project_external_ref, name = excluded.name, details = excluded.details
  where (tasks.project_external_ref, tasks.name, tasks.details) is distinct from (excluded.project_external_ref, excluded.name, excluded.details);
