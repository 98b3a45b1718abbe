"""The models of Odoo in the catalog: every one that it has, none that it has not, whatever is done in between."""

from __future__ import annotations

import time
from typing import Any

import psycopg2.errors
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.supabase.cataloguing import Catalog, field, many2one, model
from tests.supabase.conftest import Sql


@pytest.fixture
def catalog(sql: Sql) -> Catalog:
    return Catalog(sql)


def test_a_model_and_its_fields(catalog: Catalog) -> None:
    answer = catalog.sync(
        model(7, "account.move", "Journal Entry", {"state": field("Status")}, kind="model", order="id")
    )
    assert (answer["inserted"], answer["mode"]) == (1, "full")
    columns = "fqdn, type, title, metadata, origin, odoo_id, archived_at"
    assert catalog.sql(f"select {columns} from catalog.assets where odoo_id > 0") == [
        (
            "odoo.odoo_core.account.move", "odoo_model", "Journal Entry",
            {"model": "account.move", "kind": "model", "state": "base", "order": "id"}
            | {"fields": {"state": field("Status")}},
            "odoo", 7, None,
        )
    ]  # fmt: skip
    assert catalog.sql("select name, database from odoo.instances") == [("default", "odoo_core")]


def test_a_second_sync_of_the_same_state_writes_nothing(catalog: Catalog) -> None:
    catalog.sql.ingest()
    models = [model(1, "a"), model(2, "account.move", fields={"a_id": many2one("a")}), model(3, "x_c")]
    catalog.sync(*models)
    catalog.ask("register_asset", fqdn="crm.eu.lead", type="table")
    before = catalog.versions()
    assert sum(map(len, before)) > 10
    again = catalog.sync(*models)
    assert (again["inserted"], again["updated"], again["unchanged"], again["deleted"]) == (0, 0, 3, 0)
    assert again["lineage"] == {"edges_added": 0, "edges_removed": 0}
    assert catalog.ask("sync_scout_views")[1]["unchanged"] > 10
    assert catalog.ask("register_asset", fqdn="crm.eu.lead", type="table")[1]["outcome"] == "unchanged"
    assert catalog.versions() == before


def test_what_is_gone_is_archived_and_active_again_when_it_is_back(catalog: Catalog) -> None:
    first, gone = model(1, "base_model"), model(2, "hr.leave", fields={"b": many2one("base_model")})
    catalog.sync(first, gone)
    assert catalog.edges("refers_to") == [("odoo.odoo_core.hr.leave", "odoo.odoo_core.base_model")]
    assert catalog.sync(first)["deleted"] == 1
    assert catalog.active() == ["odoo.odoo_core.base_model"]
    assert catalog.edges("refers_to") == []
    catalog.assert_sound()
    # Installed again, Odoo gives its models new ids.
    back = catalog.sync(first, model(9, "hr.leave", fields={"b": many2one("base_model")}))
    assert (back["inserted"], back["updated"]) == (0, 1)
    assert catalog.active() == ["odoo.odoo_core.base_model", "odoo.odoo_core.hr.leave"]
    assert catalog.sql("select count(*) from catalog.assets where origin = 'odoo'") == [(2,)]
    assert len(catalog.edges("refers_to")) == 1


def test_more_than_a_page_of_a_thousand(catalog: Catalog) -> None:
    catalog.begin()
    for after in range(0, 2400, 800):
        catalog.page(
            [model(n, f"x_{n}") for n in range(after + 1, after + 801)], after, None if after == 1600 else after + 800
        )
    assert catalog.step("finish", cursors={})[1]["inserted"] == 2400
    assert len(catalog.active()) == 2400


def test_an_interrupted_run_archives_only_what_a_span_proved_gone(catalog: Catalog) -> None:
    catalog.sync(*[model(n, f"x_{n}") for n in range(1, 7)])
    catalog.begin()
    assert catalog.page([model(1, "x_1")], 0, 3)[1]["deleted"] == 2
    assert catalog.page([], 4, None)[0] == "page_out_of_order"
    assert catalog.begin(take_over=True)[0] == "accepted"
    assert catalog.step("finish", failed=True, cursors={})[1]["status"] == "failed"
    assert [fqdn[-1] for fqdn in catalog.active()] == ["1", "4", "5", "6"]
    assert catalog.sql("select status from odoo_seed.sync_runs order by id") == [("success",), ("failed",), ("failed",)]
    # A model that could not be read is no model that is gone.
    catalog.begin()
    catalog.page([model(1, "x_1")], errors=[{"odoo_id": 5, "error": "refused"}])
    assert catalog.step("finish", cursors={})[1]["status"] == "partial"
    assert [fqdn[-1] for fqdn in catalog.active()] == ["1", "5"]


def test_an_id_that_now_bears_another_name(catalog: Catalog) -> None:
    catalog.sync(model(1, "x_a"), model(2, "x_b"), model(3, "x_c"))
    # As a restore of another database, or SQL by hand, leaves them.
    catalog.begin()
    catalog.page([model(1, "x_b")], 0, 1)
    catalog.page([model(2, "x_a")], 1, 2)
    catalog.page([model(3, "x_new")], 2, None)
    assert catalog.step("finish", cursors={})[1]["status"] == "success"
    assert catalog.sql(
        "select fqdn, odoo_id from catalog.assets where origin = 'odoo' and archived_at is null order by 1"
    ) == [
        ("odoo.odoo_core.x_a", 2),
        ("odoo.odoo_core.x_b", 1),
        ("odoo.odoo_core.x_new", 3),
    ]


@pytest.mark.parametrize(
    ("database", "segment"),
    [("odoo_core", "odoo_core"), ("Prod-2024", "prod_2024"), ("my.shop", "my_shop"), ("Łódź", "__d_"), ("9x", "9x")],
)
def test_the_name_of_a_database_as_part_of_a_name(sql: Sql, database: str, segment: str) -> None:
    catalog = Catalog(sql, database=database)
    catalog.sync(model(1, "res.partner"))
    assert catalog.active() == [f"odoo.{segment}.res.partner"]
    assert sql("select database from catalog.databases") == [(database,)]


def test_two_instances_whose_databases_have_one_name_stay_apart(sql: Sql) -> None:
    one, two = Catalog(sql, "eu", "odoo"), Catalog(sql, "us-east", "Odoo")
    one.sync(model(1, "res.partner"), model(2, "x_eu"))
    two.sync(model(1, "res.partner", "Other"))
    more = Catalog(sql, "us_east", "odoo")
    more.sync(model(1, "res.partner"))
    assert one.active() == [
        "odoo.odoo.res.partner",
        "odoo.odoo.x_eu",
        "odoo.odoo__us_east.res.partner",
        f"odoo.odoo__us_east__{sql('select max(id) from odoo.instances')[0][0]}.res.partner",
    ]
    two.sync()
    one.sync(model(1, "res.partner"))
    assert len(one.active()) == 2
    # And each keeps what it was given.
    two.sync(model(1, "res.partner"))
    assert sql("select segment from catalog.databases order by instance_id")[1] == ("odoo__us_east",)


def test_a_database_that_is_renamed_takes_its_models_along(sql: Sql) -> None:
    catalog = Catalog(sql, database="old")
    sql.ingest()
    catalog.sync(model(1, "account.move"), model(2, "x_line", fields={"m": many2one("account.move")}))
    catalog.database = "new"
    again = catalog.sync(model(1, "account.move"), model(2, "x_line", fields={"m": many2one("account.move")}))
    assert (again["inserted"], again["unchanged"]) == (0, 2)
    assert catalog.active() == ["odoo.new.account.move", "odoo.new.x_line"]
    assert catalog.active("events") == ["event.new.account.move.posted"]
    assert catalog.edges("refers_to", "emits") == [
        ("odoo.new.account.move", "event.new.account.move.posted"),
        ("odoo.new.x_line", "odoo.new.account.move"),
    ]
    other = Catalog(sql, "other", "old")
    other.sync(model(1, "account.move"))
    assert "odoo.old.account.move" in other.active()


def test_names_that_no_fqdn_takes_are_marked(catalog: Catalog) -> None:
    catalog.sync(model(1, "x_a..b"), model(2, "x_a."), model(3, "_unknown"), model(4, "x_a__b"))
    active = catalog.active()
    assert len(active) == 4
    assert {"odoo.odoo_core._unknown", "odoo.odoo_core.x_a__b"} < set(active)
    assert catalog.sql("select metadata ->> 'model' from catalog.assets where odoo_id = 1") == [("x_a..b",)]


@pytest.mark.parametrize(
    ("name", "valid"),
    [
        ("odoo.odoo_core.account.move", True),
        ("scout.gold.v_revenue_summary", True),
        ("odoo.9x._unknown", True),
        ("odoo.odoo_core", False),
        ("odoo..account", False),
        ("Odoo.core.account", False),
        ("odoo.core.account.", False),
        ("odoo.co-re.account", False),
        ("9.core.account", False),
        ("odoo.core.acc\nount", False),
        ("odoo.core.account\n", False),
        ("odoo.core." + "a" * 491, False),
        (None, False),
    ],
)
def test_what_a_fqdn_is(sql: Sql, name: str | None, valid: bool) -> None:
    assert sql("select catalog.is_fqdn(%s)", name) == [(valid,)]
    if not valid:
        with pytest.raises((psycopg2.errors.CheckViolation, psycopg2.errors.NotNullViolation)):
            sql("insert into catalog.assets (fqdn, type) values (%s, 'table')", name)


@pytest.mark.parametrize("raw", [{"model": None}, {"model": 7}, {"fields": []}, {"fields": None}])
def test_a_model_that_is_none_is_refused_for_good(catalog: Catalog, raw: dict[str, Any]) -> None:
    catalog.begin()
    wrong = {"raw": {**model(2, "b")["raw"], **raw}}
    with pytest.raises(psycopg2.errors.InvalidParameterValue):
        catalog.page([model(1, "a"), wrong])
    assert catalog.active() == []


def test_a_run_without_the_databases_name_is_refused(sql: Sql) -> None:
    for database in (None, "", "x" * 201):
        with pytest.raises(psycopg2.errors.InvalidParameterValue):
            Catalog(sql, database=database).begin()
    assert sql("select count(*) from odoo_seed.sync_runs") == [(0,)]


ACTS = st.lists(st.tuples(st.sampled_from(["add", "drop", "title", "field", "move"]), st.integers(0, 5)), max_size=12)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(rounds=st.lists(ACTS, min_size=1, max_size=4), size=st.integers(1, 4))
def test_law_9_whatever_is_done(sql: Sql, rounds: list[list[tuple[str, int]]], size: int) -> None:
    catalog = Catalog(sql)
    there: dict[str, Any] = {}
    number = 100
    for acts in rounds:
        for act, which in acts:
            name = f"x_{which}"
            if act == "drop":
                there.pop(name, None)
            elif act in ("add", "move") or name not in there:
                number += 1
                fields = {"r": many2one(f"x_{(which + 1) % 6}")} if which % 2 else {"name": field()}
                there[name] = model(number, name, fields=fields)["raw"]
            elif act == "title":
                there[name] = {**there[name], "name": f"T{number}"}
            else:
                there[name] = {**there[name], "fields": {**there[name]["fields"], f"x_{number}": field()}}
        catalog.begin()
        rows = sorted(there.values(), key=lambda raw: raw["id"])
        for start in range(0, len(rows) + 1, size):
            page = rows[start : start + size]
            after = rows[start - 1]["id"] if start else 0
            catalog.page([{"raw": raw} for raw in page], after, page[-1]["id"] if len(page) == size else None)
        assert catalog.step("finish", cursors={})[1]["status"] == "success"
        active = "select odoo_id, title, metadata from catalog.assets where origin = 'odoo' and archived_at is null"
        assert catalog.sql(active + " order by 1") == [
            (raw["id"], raw["name"], {k: v for k, v in raw.items() if k not in ("id", "name")}) for raw in rows
        ]
        assert catalog.edges("refers_to") == sorted(
            (f"odoo.odoo_core.{name}", f"odoo.odoo_core.{of['relation']}")
            for name, raw in there.items()
            for of in raw["fields"].values()
            if of.get("relation") in there
        )
        catalog.assert_sound()


def test_five_hundred_models_of_fifty_fields(catalog: Catalog) -> None:
    def fields(number: int) -> dict[str, Any]:
        every_fifth = {f"x_r{at}": many2one(f"x_m{(number * at) % 500 + 1}") for at in range(0, 50, 5)}
        return {f"x_f{at}": field(f"Label {at}", help="What it is for") for at in range(50) if at % 5} | every_fifth

    models = [model(number, f"x_m{number}", fields=fields(number)) for number in range(1, 501)]
    for expected in ((500, 0), (0, 500)):
        catalog.begin()
        slowest = 0.0
        for after in range(0, 500, 100):
            started = time.monotonic()
            catalog.page(models[after : after + 100], after, None if after == 400 else after + 100)
            slowest = max(slowest, time.monotonic() - started)
        started = time.monotonic()
        done = catalog.step("finish", cursors={})[1]
        assert (done["inserted"], done["unchanged"]) == expected
        # In sets: the function waits 8 s for each, and half of that is far more than it takes.
        assert max(slowest, time.monotonic() - started) < 4
    assert len(catalog.edges("refers_to")) > 3_000
