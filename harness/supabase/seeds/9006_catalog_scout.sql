-- What the figures of scout_gold mean: a metric is an expression over one of its views, by which columns it may be split.

select catalog.sync_scout_views();

do $metrics$
declare
  v_metric record;
  v_verdict text;
begin
  for v_metric in
    select * from (values
      ('revenue', 'Revenue', 'Customer invoices less refunds, as they were posted.', 'v_revenue_summary', 'sum(revenue)',
       array['instance', 'month', 'currency']),
      ('invoices', 'Posted invoices', 'How many customer invoices were posted.', 'v_revenue_summary', 'sum(invoices)',
       array['instance', 'month', 'currency']),
      ('target_attainment', 'Attainment of the revenue target', 'Revenue in percent of what was planned.', 'v_revenue_against_target',
       'round(100 * sum(revenue) / sum(target), 1)', array['instance', 'month', 'currency']),
      ('events', 'Events', 'How many events Odoo sent, as of the last refresh.', 'mv_event_volume', 'sum(events)',
       array['instance', 'day', 'event_type']),
      ('failed_share', 'Share of failed events', 'Failed events in percent of all, as of the last refresh.', 'mv_event_volume',
       'round(100.0 * sum(failed) / sum(events), 2)', array['instance', 'day', 'event_type'])
    ) as m (name, title, description, view, expression, split_by)
  loop
    v_verdict := (select r.verdict from catalog.register_asset('metric.gold.' || v_metric.name, 'metric', v_metric.title,
      jsonb_build_object('description', v_metric.description, 'fqdn', 'scout.gold.' || v_metric.view, 'expression', v_metric.expression,
        'split_by', to_jsonb(v_metric.split_by))) r);
    if v_verdict <> 'accepted' then
      raise exception 'the metric % was not registered: %', v_metric.name, v_verdict;
    end if;
  end loop;
end
$metrics$;
