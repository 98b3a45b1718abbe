-- Schema scout_gold: what analysts read, made of the events alone. The catalog knows each of these as scout.gold.<name>.

create schema if not exists scout_gold;
comment on schema scout_gold is 'Figures for analysts, out of the events of Odoo. For service_role only.';
revoke all on schema scout_gold from public, anon, authenticated;
grant usage on schema scout_gold to service_role;

create view scout_gold.v_revenue_summary with (security_invoker = true) as
  with latest as (
    -- An invoice that was corrected and posted again counts once, as it was posted last.
    select distinct on (e.instance_id, e.aggregate_id)
      e.id, e.instance_id, e.aggregate_id, e.received_at, e.payload
    from odoo.webhook_events e
    where e.aggregate_type = 'account.move' and e.event_type = 'account.move.posted' and e.outcome = 'applied'
    order by e.instance_id, e.aggregate_id, e.id desc
  ), invoice as (
    select l.instance_id,
      case when coalesce(l.payload ->> 'invoice_date', l.payload ->> 'date') ~ '^[0-9]{4}-(0[1-9]|1[0-2])-'
        then to_date(left(coalesce(l.payload ->> 'invoice_date', l.payload ->> 'date'), 7), 'YYYY-MM')
        else date_trunc('month', l.received_at at time zone 'UTC')::date end as month,
      case jsonb_typeof(l.payload -> 'currency_id')
        when 'object' then l.payload -> 'currency_id' ->> 'display_name'
        when 'string' then l.payload ->> 'currency_id' end as currency,
      case when jsonb_typeof(l.payload -> 'amount_untaxed') = 'number' then (l.payload ->> 'amount_untaxed')::numeric
        when jsonb_typeof(l.payload -> 'amount_total') = 'number' then (l.payload ->> 'amount_total')::numeric end as amount,
      case when l.payload ->> 'move_type' = 'out_refund' then -1 else 1 end as sign
    from latest l
    -- Without a move_type the event does not say what it is of: then it is taken for an invoice.
    where coalesce(l.payload ->> 'move_type', 'out_invoice') in ('out_invoice', 'out_receipt', 'out_refund')
      and not exists (select from odoo.webhook_events later
        where later.instance_id = l.instance_id and later.aggregate_type = 'account.move' and later.aggregate_id = l.aggregate_id
          and later.id > l.id and later.outcome = 'applied' and later.payload ->> 'state' in ('draft', 'cancel'))
  )
  select n.name as instance, i.month, i.currency, count(*) filter (where i.sign > 0) as invoices, count(*) filter (where i.sign < 0) as refunds,
    coalesce(sum(i.sign * i.amount), 0) as revenue, count(*) filter (where i.amount is null) as without_amount
  from invoice i
  join odoo.instances n on n.id = i.instance_id
  group by n.name, i.month, i.currency;
comment on view scout_gold.v_revenue_summary is 'Revenue by month and currency, out of the events account.move.posted: customer invoices less refunds, each as it was posted last, without those that went back to draft or were cancelled.';
comment on column scout_gold.v_revenue_summary.month is 'Its first day: of the invoice date; where the event has none, of its arrival.';
comment on column scout_gold.v_revenue_summary.currency is 'Null where the events do not say.';
comment on column scout_gold.v_revenue_summary.revenue is 'amount_untaxed where the event has it, else amount_total.';
comment on column scout_gold.v_revenue_summary.without_amount is 'How many of the documents came without an amount, and so count as 0.';

create materialized view scout_gold.mv_event_volume as
  select n.name as instance, (e.received_at at time zone 'UTC')::date as day, e.event_type, count(*) as events,
    count(*) filter (where e.outcome = 'applied') as applied, count(*) filter (where e.status = 'failed') as failed,
    max(e.received_at) as latest
  from odoo.webhook_events e
  join odoo.instances n on n.id = e.instance_id
  group by n.name, (e.received_at at time zone 'UTC')::date, e.event_type;
comment on materialized view scout_gold.mv_event_volume is 'Events by day (in UTC) and type, as of its last refresh.';
-- Without it, a refresh would keep readers out.
create unique index mv_event_volume_once on scout_gold.mv_event_volume (instance, day, event_type);

revoke all on scout_gold.v_revenue_summary, scout_gold.mv_event_volume from public, anon, authenticated;
grant select on scout_gold.v_revenue_summary, scout_gold.mv_event_volume to service_role;
