drop view scout_gold.v_revenue_against_target;
drop table scout_gold.revenue_targets;
