-- The way back of 20260101000410_engine_scout.sql.
drop materialized view scout_gold.mv_event_volume;
drop view scout_gold.v_revenue_summary;
drop schema scout_gold;
