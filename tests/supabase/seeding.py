"""The seed, applied to a database of the tests."""

from __future__ import annotations

from typing import Any

from ipai_harness.stack import migrations
from tests.supabase.conftest import PROJECT, Sql

SEEDED = (
    "odoo.instances", "erp.bir_forms", "odoo_seed.projects", "odoo_seed.tasks", "odoo.event_handlers",
    "catalog.glossary", "scout_gold.revenue_targets", "catalog.assets", "catalog.tools", "catalog.permissions",
    "catalog.lineage_edges",
)  # fmt: skip
"""Every table that the seed writes to."""


def seed(sql: Sql) -> Sql:
    """Apply all parts of the seed."""
    connection = sql.connect()
    for file in migrations.seed_files(PROJECT):
        migrations.run_file(connection, file)
    return sql


def content(sql: Sql) -> dict[str, list[Any]]:
    """Every row that the seed wrote, with the transaction that wrote it."""
    return {table: sql(f"select xmin::text, t::text from {table} t order by 2") for table in SEEDED}
