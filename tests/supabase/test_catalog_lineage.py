"""Lineage, from what is there: the events that arrived, the fields of models, PostgreSQL's own dependencies."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.supabase.cataloguing import Catalog, field, many2one, model
from tests.supabase.conftest import Sql, rows, until

INBOX = "supabase.odoo.webhook_events"
MOVE = "odoo.odoo_core.account.move"
POSTED = "event.odoo_core.account.move.posted"
REVENUE = "scout.gold.v_revenue_summary"
TASK = "odoo.odoo_core.project.task"
DATA_FLOW = ("emits", "stored_in", "synced_to", "verified_by", "read_by")


@pytest.fixture
def catalog(sql: Sql) -> Catalog:
    return Catalog(sql)


def event(sql: Sql, event_type: str, aggregate_type: str, instance: str = "default") -> None:
    head = (
        f'{{"event_type": "{event_type}", "aggregate_type": "{aggregate_type}", "aggregate_id": "1", "payload": {{}}}}'
    )
    assert sql.ingest(body=head, instance=instance)[2] == "accepted"


def lineage(catalog: Catalog, fqdn: str, **more: Any) -> Any:
    verdict, answer = catalog.ask("get_lineage", fqdn=fqdn, **more)
    assert verdict == "accepted"
    return answer


def reached(answer: Any, direction: str) -> list[tuple[str, int]]:
    return [(a["fqdn"], a["distance"]) for a in answer["assets"] if a["direction"] == direction]


def test_from_the_model_to_the_view(catalog: Catalog) -> None:
    event(catalog.sql, "account.move.posted", "account.move")
    catalog.sync(model(1, "account.move"), model(2, "res.partner"))
    assert catalog.edges("emits", "stored_in") == [(POSTED, INBOX), (MOVE, POSTED)]
    assert (INBOX, REVENUE) in catalog.edges("read_by")
    down = lineage(catalog, MOVE, direction="down")
    assert reached(down, "down")[:2] == [(POSTED, 1), (INBOX, 2)]
    assert (REVENUE, 3) in reached(down, "down")
    assert ("scout.gold.mv_event_volume", 3) in reached(down, "down")
    assert not down["more"]
    up = lineage(catalog, REVENUE, direction="up")
    assert [fqdn for fqdn, _ in reached(up, "up")] == ["supabase.odoo.instances", INBOX, POSTED, MOVE]
    assert {"from": MOVE, "to": POSTED, "kind": "emits", "details": {}} in up["edges"]
    catalog.assert_sound()


def test_from_the_model_to_its_shadow(catalog: Catalog) -> None:
    project = model(1, "project.project")
    catalog.sync(project, model(2, "project.task"))
    assert catalog.edges("synced_to", "verified_by") == []
    event(catalog.sql, "project.task.done", "project.task")
    catalog.sql("insert into odoo.sync_cursors (instance_id, entity) select id, 'project.task' from odoo.instances")
    catalog.sync(project, model(2, "project.task"))
    shadow = "supabase.odoo_seed.shadow_tasks"
    assert catalog.edges("synced_to", "verified_by") == [(TASK, shadow), (INBOX, shadow)]
    down = dict(reached(lineage(catalog, TASK, direction="down", depth=3), "down"))
    assert (down["event.odoo_core.project.task.done"], down[INBOX], down[shadow]) == (1, 2, 1)


def test_a_view_in_another_schema_of_the_same_name_is_told_apart(catalog: Catalog) -> None:
    """Names that were looked up without their schema resolved to nothing, or to the wrong table."""
    catalog.sql(
        'create schema app; create table app.instances (id bigint); create table app."Odd Name" (id bigint);'
        'create view app.middle as select i.id from app.instances i join app."Odd Name" using (id);'
        "set search_path = app;"
        "create view scout_gold.v_mine as select id from middle;"
        "reset search_path"
    )
    try:
        assert catalog.ask("sync_scout_views")[0] == "accepted"
        edges = catalog.edges("read_by")
        [odd] = [begin for begin, _ in edges if begin.startswith("supabase.app.odd_name_")]
        assert {end for begin, end in edges if begin == "supabase.app.instances"} == {"supabase.app.middle"}
        assert (odd, "supabase.app.middle") in edges
        assert ("supabase.app.middle", "scout.gold.v_mine") in edges
        up = lineage(catalog, "scout.gold.v_mine", direction="up")
        assert reached(up, "up") == [("supabase.app.middle", 1), ("supabase.app.instances", 2), (odd, 2)]
        assert catalog.sql("select metadata ->> 'name' from catalog.assets where fqdn = %s", odd) == [("Odd Name",)]
    finally:
        catalog.sql("drop view scout_gold.v_mine")
    assert catalog.ask("sync_scout_views")[1]["archived"] == 4
    assert [edge for edge in catalog.edges("read_by") if "app" in edge[0]] == []
    assert catalog.ask("get_lineage", fqdn="scout.gold.v_mine") == ("unknown_asset", None)


def test_every_kind_of_relation_in_scout_gold_is_an_asset(catalog: Catalog) -> None:
    catalog.sql(
        "create table scout_gold.t (id bigint primary key, note text); comment on table scout_gold.t is 'Said';"
        "comment on column scout_gold.t.note is 'A note';"
        "create materialized view scout_gold.m as select id from scout_gold.t"
    )
    try:
        catalog.ask("sync_scout_views")
        assert catalog.sql("select fqdn, type from catalog.assets where fqdn like 'scout.%%' order by 1") == [
            ("scout.gold.m", "materialized_view"),
            ("scout.gold.mv_event_volume", "materialized_view"),
            ("scout.gold.revenue_targets", "table"),
            ("scout.gold.t", "table"),
            ("scout.gold.v_revenue_against_target", "view"),
            (REVENUE, "view"),
        ]
        assert catalog.sql("select title, metadata -> 'fields' from catalog.assets where fqdn = 'scout.gold.t'") == [
            (
                "Said",
                {"id": {"type": "bigint", "required": True}}
                | {"note": {"type": "text", "required": False, "label": "A note"}},
            )
        ]
    finally:
        catalog.sql("drop table scout_gold.t cascade")
    assert catalog.ask("sync_scout_views")[1]["archived"] == 2


def test_what_no_event_and_no_field_says_any_more_is_deleted(catalog: Catalog) -> None:
    event(catalog.sql, "account.move.posted", "account.move")
    event(catalog.sql, "account.move.paid", "account.move")
    partner = model(2, "res.partner")
    two = {"partner_id": many2one("res.partner"), "payer_id": many2one("res.partner"), "x": many2one("not.there")}
    catalog.sync(model(1, "account.move", fields=two), partner)
    details = "select details from catalog.lineage_edges where kind = 'refers_to'"
    assert catalog.sql(details) == [({"fields": ["partner_id", "payer_id"]},)]
    catalog.sql("delete from odoo.webhook_events where event_type = 'account.move.paid'")
    answer = catalog.sync(model(1, "account.move", fields={"payer_id": many2one("res.partner")}), partner)
    assert answer["lineage"] == {"edges_added": 1, "edges_removed": 0}  # the edges of the event went with its asset
    assert catalog.sql(details) == [({"fields": ["payer_id"]},)]
    assert catalog.active("events") == [POSTED]
    assert catalog.sync(model(1, "account.move", fields={"x": field()}), partner)["lineage"]["edges_removed"] == 1
    assert catalog.edges("refers_to") == []
    catalog.assert_sound()


def test_events_of_one_instance_are_not_those_of_another(sql: Sql) -> None:
    one, two = Catalog(sql, "one", "odoo"), Catalog(sql, "two", "odoo")
    for aggregate in ("a.a", "b.b", "c.c"):
        event(sql, f"{aggregate}.done", aggregate, "one")
    event(sql, "b.b.done", "b.b", "two")
    event(sql, "shared.done", "a.a", "two")
    event(sql, "shared.done", "c.c", "two")
    for catalog in (one, two):
        catalog.sync(model(1, "a.a"), model(2, "b.b"))
    assert one.edges("emits") == [
        ("odoo.odoo.a.a", "event.odoo.a.a.done"),
        ("odoo.odoo.b.b", "event.odoo.b.b.done"),
        ("odoo.odoo__two.a.a", "event.odoo__two.shared.done"),
        ("odoo.odoo__two.b.b", "event.odoo__two.b.b.done"),
    ]
    # That of a model which Odoo has not is an event all the same.
    assert ("event.odoo.c.c.done", INBOX) in one.edges("stored_in")
    two.sync()
    assert len(one.edges("emits")) == 2
    one.assert_sound()


def test_circles_end_and_relations_are_followed_when_asked(catalog: Catalog) -> None:
    ring = [
        model(n, f"x_{n}", fields={"next": many2one(f"x_{n % 4 + 1}"), "me": many2one(f"x_{n}")}) for n in range(1, 5)
    ]
    catalog.sync(*ring)
    start = "odoo.odoo_core.x_1"
    assert lineage(catalog, start)["assets"] == []
    around = lineage(catalog, start, kinds=["refers_to"], depth=20)
    assert reached(around, "down") == [(f"odoo.odoo_core.x_{n}", n - 1) for n in (2, 3, 4)]
    assert reached(around, "up") == [(f"odoo.odoo_core.x_{n}", 5 - n) for n in (4, 3, 2)]
    assert len({(edge["from"], edge["to"]) for edge in around["edges"]}) == 8
    assert not around["more"]
    short = lineage(catalog, start, kinds=["refers_to"], depth=2, direction="down")
    assert (len(short["assets"]), short["more"]) == (2, True)
    assert {edge["kind"] for edge in around["edges"]} == {"refers_to"}


def test_each_edge_is_told_once(catalog: Catalog) -> None:
    # Two ways of one length, and one that is longer.
    catalog.sync(
        model(1, "x_a", fields={"b": many2one("x_b"), "c": many2one("x_c"), "d": many2one("x_d")}),
        model(2, "x_b", fields={"d": many2one("x_d")}),
        model(3, "x_c", fields={"d": many2one("x_d")}),
        model(4, "x_d"),
    )
    answer = lineage(catalog, "odoo.odoo_core.x_a", kinds=["refers_to"], direction="down")
    assert sorted(answer["edges"], key=repr) == sorted(
        [
            {
                "from": f"odoo.odoo_core.x_{a}",
                "to": f"odoo.odoo_core.x_{b}",
                "kind": "refers_to",
                "details": {"fields": [b]},
            }
            for a, b in ("ab", "ac", "ad", "bd", "cd")
        ],
        key=repr,
    )
    assert sorted(distance for _, distance in reached(answer, "down")) == [1, 1, 1]


def test_lineage_without_a_sync_is_nobodys(catalog: Catalog) -> None:
    event(catalog.sql, "account.move.posted", "account.move")
    assert catalog.ask("sync_scout_views")[0] == "accepted"
    assert catalog.active("events") == []
    assert catalog.sql("select catalog.refresh_lineage(id) from odoo.instances") == [
        ({"edges_added": 0, "edges_removed": 0},)
    ]


def test_a_refresh_sees_events_that_came_after_the_sync(catalog: Catalog) -> None:
    catalog.sync(model(1, "account.move"))
    event(catalog.sql, "account.move.posted", "account.move")
    assert catalog.edges("emits") == []
    catalog.ask("sync_scout_views")
    assert catalog.edges("emits") == [(MOVE, POSTED)]


def test_refreshing_and_syncing_at_once_wait_for_each_other(sql: Sql) -> None:
    catalogs = [Catalog(Sql(sql.server, sql.database), f"i{number}", "odoo") for number in range(3)]
    ring = [model(n, f"x_{n}", fields={"next": many2one(f"x_{n % 9 + 1}")}) for n in range(1, 10)]
    failed: list[BaseException] = []

    def act(number: int) -> None:
        catalog = catalogs[number]
        try:
            for round in range(8):
                if number:
                    catalog.sync(*ring[round % 3 : 9 - round % 2])
                else:
                    assert catalog.ask("sync_scout_views")[0] == "accepted"
        except BaseException as error:  # noqa: BLE001 -- told below
            failed.append(error)

    threads = [threading.Thread(target=act, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for catalog in catalogs:
        for connection in catalog.sql.opened:
            connection.close()
    assert failed == []
    Catalog(sql).assert_sound()


def test_no_edge_to_a_model_that_is_being_archived(catalog: Catalog) -> None:
    catalog.sync(model(1, "x_a", fields={"b": many2one("x_b")}), model(2, "x_b"))
    catalog.sql("delete from catalog.lineage_edges where kind = 'refers_to'")
    catalog.begin()
    paging = Catalog(Sql(catalog.sql.server, catalog.sql.database))
    paging.run = catalog.run
    paging.sql("begin")
    assert paging.page([model(1, "x_a", fields={"b": many2one("x_b")})])[1]["deleted"] == 1
    refreshing = catalog.sql.connect()
    thread = threading.Thread(target=lambda: rows(refreshing, "select catalog.refresh()"))
    thread.start()
    waiting = "select 1 from pg_stat_activity where query like 'select catalog.refresh%%' and wait_event_type = 'Lock'"
    until(lambda: catalog.sql(waiting) or not thread.is_alive(), "the refresh waits")
    paging.sql("commit")
    thread.join(30)
    for connection in paging.sql.opened:
        connection.close()
    catalog.assert_sound()
