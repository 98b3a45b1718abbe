"""The seed: nine parts, in order, as often as one likes; and what its figures and filings are there for."""

from __future__ import annotations

import datetime
import json
import re
import subprocess
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ipai_harness.errors import MigrationFailed
from ipai_harness.stack import migrations
from tests.supabase.conftest import PROJECT, Sql
from tests.supabase.seeding import SEEDED, content, seed

PARTS = [
    "9000_core", "9001_erp", "9002_engines", "9003_ai_rag", "9004_analytics", "9005_catalog", "9006_catalog_scout",
    "9007_skills", "9008_drawio",
]  # fmt: skip


@pytest.fixture
def seeded(sql: Sql) -> Sql:
    return seed(sql)


def test_the_configuration_and_the_script_name_the_same_parts_in_order() -> None:
    files = [file.relative_to(PROJECT).as_posix() for file in migrations.seed_files(PROJECT)]
    script = (PROJECT / "seed.sql").read_text()
    assert re.findall(r"^\\ir (.*)$", script, re.MULTILINE) == files == [f"seeds/{part}.sql" for part in PARTS]
    assert files == sorted(f"seeds/{file.name}" for file in (PROJECT / "seeds").iterdir())
    assert all(line.startswith(("--", "\\ir ")) for line in script.splitlines())


def test_a_second_time_changes_nothing(seeded: Sql) -> None:
    before = content(seeded)
    assert all(before.values())
    seed(seeded)
    assert content(seeded) == before


def test_what_was_changed_by_hand_is_put_right(seeded: Sql) -> None:
    tables = [table for table in SEEDED if table != "odoo.instances"]
    whole = {table: len(rows) for table, rows in content(seeded).items()}
    seeded(
        "update erp.bir_forms set title = 'x'; update odoo_seed.projects set name = 'x'; "
        "update odoo_seed.tasks set details = '{}'; update catalog.glossary set means = 'x'; "
        "update scout_gold.revenue_targets set target = 1; update catalog.tools set enabled = false; "
        "delete from catalog.permissions; delete from catalog.lineage_edges; delete from odoo.event_handlers"
    )
    seed(seeded)
    assert {table: len(rows) for table, rows in content(seeded).items()} == whole
    for table in tables:
        assert seeded(f"select count(*) from {table} t where t::text ~ '[,(]x[,)]'") == [(0,)], table
    assert seeded("select count(*) from catalog.tools where not enabled") == [(0,)]
    assert seeded("select distinct target from scout_gold.revenue_targets") == [(1_000_000,)]


def test_it_leaves_alone_what_others_wrote(seeded: Sql) -> None:
    seeded("update odoo.instances set base_url = 'https://odoo.example.com'")
    seeded("insert into catalog.glossary (term, means) values ('client', 'x')")
    seed(seeded)
    assert seeded("select base_url from odoo.instances") == [("https://odoo.example.com",)]
    assert seeded("select means from catalog.glossary where term = 'client'") == [("x",)]


def test_psql_does_the_same(sql: Sql) -> None:
    cluster = sql.server.cluster
    psql = cluster.installation.bin / "psql"
    dsn = cluster.dsn("sql", "postgres", sql.server.password)
    options = ["--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--output", "/dev/null"]
    done = subprocess.run(
        [psql, dsn, *options, "--file", PROJECT / "seed.sql"], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    by_psql = content(sql)
    assert all(by_psql.values())
    seed(sql)
    assert content(sql) == by_psql


def test_the_order_matters(sql: Sql) -> None:
    """A diagram of what is not in the catalog yet is refused; so the last part cannot come first."""
    last = PROJECT / f"seeds/{PARTS[-1]}.sql"
    with pytest.raises(MigrationFailed, match=r"a node of the diagram is no asset of the catalog: bridge\."):
        migrations.run_file(sql.connect(), last)


def test_a_part_that_fails_leaves_nothing(sql: Sql, tmp_path: Path) -> None:
    spoilt = tmp_path / "9000_core.sql"
    spoilt.write_text((PROJECT / "seeds/9000_core.sql").read_text() + ";\nselect nothing;")
    with pytest.raises(MigrationFailed, match=r"9000_core\.sql, line \d+ failed"):
        migrations.run_file(sql.connect(), spoilt)
    assert sql("select count(*) from odoo.instances") == [(0,)]


# ------------------------------------------------------------------------------------------------ 9001: the filings

DUE = {
    "0619-E": ["02-10", "03-10", "05-10", "06-10", "08-10", "09-10", "11-10", "12-10"],
    "1601-C": [
        "02-10",
        "03-10",
        "04-10",
        "05-10",
        "06-10",
        "07-10",
        "08-10",
        "09-10",
        "10-10",
        "11-10",
        "12-10",
        "01-15",
    ],
    "1601-EQ": ["04-30", "07-31", "10-31", "01-31"],
    "1604-C": ["01-31"],
    "1604-E": ["03-01"],
    "1702-RT": ["04-15"],
    "1702Q": ["05-30", "08-29", "11-29"],
    "2307": ["04-20", "07-20", "10-20", "01-20"],
    "2316": ["01-31"],
    "2550Q": ["04-25", "07-25", "10-25", "01-25"],
}
"""When each form is due, month and day; of the annual ones, in 2027."""


def test_every_form_is_filed_when_it_is_due(seeded: Sql) -> None:
    found = seeded("select name, external_ref, details from odoo_seed.tasks order by details ->> 'due', external_ref")
    due: dict[str, list[str]] = {}
    for name, reference, details in found:
        form, day, end = details["form"], details["due"], details["period_end"]
        due.setdefault(form, []).append(day[5:])
        assert datetime.date.fromisoformat(end) < datetime.date.fromisoformat(day)
        assert name == f"BIR {form} for the period to {end}"
        # Odoo takes at most one dot in an XML id.
        assert re.fullmatch(r"bir\.f[0-9a-z_]+_2026_(m[01][0-9]|q[1-4]|y)", reference)
        assert (form, details["title"]) in seeded("select code, title from erp.bir_forms")
    assert due == DUE
    assert {code for (code,) in seeded("select code from erp.bir_forms")} == set(DUE)


def test_what_nobody_planned_in_odoo_is_missing(seeded: Sql) -> None:
    planned = sum(map(len, DUE.values()))
    missing = "select count(*) from odoo_seed.v_missing_in_odoo where instance = 'default' and entity = %s"
    assert seeded(missing, "project") == [(1,)]
    assert seeded(missing, "task") == [(planned,)]
    seeded(
        "insert into odoo_seed.shadow_projects (instance_id, odoo_id, external_ref, name, raw) "
        "select instance_id, 7, external_ref, name, '{}' from odoo_seed.projects"
    )
    seeded(
        "insert into odoo_seed.shadow_tasks (instance_id, odoo_id, external_ref, project_odoo_id, name, raw) "
        "select instance_id, row_number() over (), external_ref, 7, name, '{}' from odoo_seed.tasks "
        "where external_ref like 'bir.f2550q%%'"
    )
    assert seeded(missing, "project") == [(0,)]
    assert seeded(missing, "task") == [(planned - 4,)]
    assert seeded("select count(*) from odoo_seed.v_orphan_in_odoo") == [(0,)]
    assert seeded("select count(*) from odoo_seed.v_name_drift") == [(0,)]
    assert seeded("select distinct project_external_ref in (select external_ref from odoo_seed.projects) "
                  "from odoo_seed.tasks") == [(True,)]  # fmt: skip


# ----------------------------------------------------------------------------------------------- 9002: the handlers


def emit(sql: Sql, kind: str, number: int, payload: Any, sequence: int | None = None) -> None:
    body = json.dumps({
        "event_type": f"{kind}.planned", "aggregate_type": kind, "aggregate_id": str(number), "payload": payload,
    })  # fmt: skip
    event_id, _, verdict = sql.ingest(body=body, sequence=sequence, key=str(uuid.uuid4()))
    assert verdict == "accepted"
    sql("select * from odoo.process_event(%s)", event_id)
    assert sql("select status, error_message from odoo.webhook_events where id = %s", event_id) == [("completed", None)]


def mapped(sql: Sql) -> list[tuple[Any, ...]]:
    return sql(
        "select m.odoo_model, m.odoo_id, coalesce(p.external_ref, t.external_ref), m.sequence "
        "from odoo.entity_mappings m "
        "left join odoo_seed.projects p on m.supabase_table = 'projects' and p.id::text = m.supabase_id "
        "left join odoo_seed.tasks t on m.supabase_table = 'tasks' and t.id::text = m.supabase_id "
        "where m.supabase_schema = 'odoo_seed' order by 1, 2"
    )


def test_an_event_finds_what_is_planned(seeded: Sql) -> None:
    task = "bir.f2307_2026_q1"
    emit(seeded, "project.project", 3, {"x_external_ref": "bir.calendar_2026"}, 1)
    emit(seeded, "project.task", 4, {"x_external_ref": task, "name": "n"}, 1)
    assert mapped(seeded) == [
        ("project.project", "3", "bir.calendar_2026", 1),
        ("project.task", "4", task, 1),
    ]
    # A payload without the field says nothing of it.
    emit(seeded, "project.task", 4, {"name": "n"}, 2)
    emit(seeded, "project.task", 4, {"x_external_ref": "bir.f2307_2026_q2"}, 3)
    assert mapped(seeded)[1] == ("project.task", "4", "bir.f2307_2026_q2", 3)


@pytest.mark.parametrize("reference", [False, None, "", "bir.unknown", 5, {"id": 1}])
def test_what_names_nothing_that_is_planned_is_not_mapped(seeded: Sql, reference: Any) -> None:
    emit(seeded, "project.task", 4, {"x_external_ref": "bir.f2307_2026_q1"}, 1)
    emit(seeded, "project.task", 4, {"x_external_ref": reference}, 2)
    emit(seeded, "project.project", 5, {"x_external_ref": reference}, 1)
    emit(seeded, "project.tags", 5, {"x_external_ref": "bir.calendar_2026"}, 1)
    assert mapped(seeded) == []


# ----------------------------------------------------------------------------------------------- 9004: the targets


def test_revenue_stands_beside_its_target(seeded: Sql) -> None:
    months = [datetime.date(2026, month, 1) for month in range(1, 13)]
    shown = "select month, revenue, target, percent from scout_gold.v_revenue_against_target where currency = 'PHP'"
    assert sorted(seeded(shown)) == [(month, 0, 1_000_000, 0) for month in months]
    for number, (day, amount, currency) in enumerate(
        [
            ("2026-02-03", 250_000, "PHP"),
            ("2026-02-09", 500_500, "PHP"),
            ("2026-02-09", 9, "USD"),
            ("2025-12-31", 7, "PHP"),
        ]
    ):
        body = {
            "event_type": "account.move.posted", "aggregate_type": "account.move", "aggregate_id": str(number),
            "payload": {"amount_untaxed": amount, "currency_id": currency, "invoice_date": day},
        }  # fmt: skip
        event_id = seeded.ingest(body=json.dumps(body))[0]
        seeded("select * from odoo.process_event(%s)", event_id)
    found = {(row[0], row[1]): row[2:] for row in seeded(
        "select month, currency, revenue, target, percent from scout_gold.v_revenue_against_target"
    )}  # fmt: skip
    assert found[months[1], "PHP"] == (750_500, 1_000_000, Decimal("75.1"))
    assert found[months[0], "PHP"] == (0, 1_000_000, 0)
    assert found[months[1], "USD"] == (9, None, None)
    assert found[datetime.date(2025, 12, 1), "PHP"] == (7, None, None)
    assert len(found) == 14
