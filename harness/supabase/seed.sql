-- The nine parts of the seed, in order, for psql:  psql "$DSN" --set ON_ERROR_STOP=1 --file seed.sql
-- The Supabase CLI knows no \ir: it takes the same list from config.toml ([db.seed] sql_paths). May be applied again.
\ir seeds/9000_core.sql
\ir seeds/9001_erp.sql
\ir seeds/9002_engines.sql
\ir seeds/9003_ai_rag.sql
\ir seeds/9004_analytics.sql
\ir seeds/9005_catalog.sql
\ir seeds/9006_catalog_scout.sql
\ir seeds/9007_skills.sql
\ir seeds/9008_drawio.sql
