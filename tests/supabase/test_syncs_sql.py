"""The SQL of the syncs: runs, pages, spans, tombstones; the drift views against a plain reading of their meaning."""

from __future__ import annotations

import json
import secrets
import threading
import time
import uuid
from collections.abc import Sequence
from typing import Any

import psycopg2.errors
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.supabase.conftest import Sql, rows

PROJECT, TASK, MODULE = "project.project", "project.task", "ir.module.module"


class Run:
    """One run of a sync, asked by hand."""

    def __init__(self, sql: Sql, *, sync: str = "finance", instance: str = "default", **begin: Any) -> None:
        self.sql, self.sync, self.instance, self.id = sql, sync, instance, str(uuid.uuid4())
        self.begun = self.ask("begin", **begin)

    def ask(self, action: str, *, key: str | None = None, **body: Any) -> tuple[str, Any]:
        """(verdict, answer)"""
        text = json.dumps({"action": action, "run": self.id, **body})
        values = (self.sync, self.instance, key or str(uuid.uuid4()), text, secrets.token_hex(32))
        [row] = self.sql("select verdict, answer from odoo_seed.sync_request(%s, %s, %s, %s, %s, now())", *values)
        return row[0], row[1]

    def page(self, entity: str, found: Sequence[Any], after: int = 0, upto: int | None = None, **more: Any) -> Any:
        span: dict[str, Any] = {"span": [after, upto]} if self.begun[1]["mode"] == "full" else {}
        return self.ask("page", entity=entity, rows=found, **span, **more)

    def finish(self, **more: Any) -> Any:
        return self.ask("finish", **more)[1]


def row(number: int, name: str | None = "n", ref: str | None = None, **raw: Any) -> dict[str, Any]:
    return {"external_ref": ref, "raw": {"id": number, "name": name, "active": True, **raw}}


def snapshot(sql: Sql, projects: Sequence[Any] = (), tasks: Sequence[Any] = (), **options: Any) -> Any:
    run = Run(sql, full=True, **options)
    assert run.page(PROJECT, projects)[0] == "accepted"
    assert run.page(TASK, tasks)[0] == "accepted"
    return run.finish(cursors={PROJECT: "2026-01-01 00:00:00", TASK: "2026-01-01 00:00:00"})


def shadow(sql: Sql, table: str = "shadow_projects") -> list[Any]:
    return [tuple(found) for found in sql(f"select odoo_id, name from odoo_seed.{table} order by instance_id, odoo_id")]


def test_a_snapshot_makes_the_shadow_equal(sql: Sql) -> None:
    first = snapshot(sql, [row(1), row(2), row(5)], [row(7, project_id=5)])
    assert (first["status"], first["inserted"], first["deleted"]) == ("success", 4, 0)
    second = snapshot(sql, [row(1, "new"), row(5), row(6)])
    counts = {name: second[name] for name in ("inserted", "updated", "unchanged", "deleted")}
    assert counts == {"inserted": 1, "updated": 1, "unchanged": 1, "deleted": 2}
    assert shadow(sql) == [(1, "new"), (5, "n"), (6, "n")]
    assert shadow(sql, "shadow_tasks") == []
    assert sql("select entity, odoo_id, raw ->> 'project_id' from odoo_seed.tombstones order by 1") == [
        (PROJECT, 2, None),
        (TASK, 7, "5"),
    ]
    snapshot(sql, [row(2)])
    assert sql("select odoo_id from odoo_seed.tombstones where entity = %s order by 1", PROJECT) == [(1,), (5,), (6,)]


def test_an_increment_takes_the_difference_of_ids(sql: Sql) -> None:
    snapshot(sql, [row(number) for number in range(1, 8)])
    run = Run(sql)
    assert run.begun[1] == {
        "mode": "increment",
        "cursors": {PROJECT: "2026-01-01 00:00:00", TASK: "2026-01-01 00:00:00"},
        "duplicate": False,
    }
    assert run.page(PROJECT, [row(3, "changed")])[1]["updated"] == 1
    verdict, answer = run.ask("ids", entity=PROJECT, span=[0, 4], ids="{[1,1],[3,3]}")
    assert (verdict, answer["deleted"], answer["unknown"]) == ("accepted", 2, [])
    verdict, answer = run.ask("ids", entity=PROJECT, span=[4, None], ids="{[6,9]}")
    assert (answer["deleted"], answer["unknown"]) == (1, [8, 9])
    assert run.page(PROJECT, [row(8)])[1]["inserted"] == 1
    assert shadow(sql) == [(1, "n"), (3, "changed"), (6, "n"), (7, "n"), (8, "n")]
    assert run.finish()["status"] == "partial"  # of the tasks nothing was told
    assert sql("select cursor from odoo.sync_cursors order by entity") == [("2026-01-01 00:00:00",)] * 2


def test_a_page_sent_again_changes_nothing(sql: Sql) -> None:
    run, key = Run(sql, full=True), str(uuid.uuid4())
    page = {"entity": PROJECT, "rows": [row(1)], "span": [0, 5]}
    verdict, first = run.ask("page", key=key, **page)
    assert run.page(PROJECT, [row(9)], after=5)[0] == "accepted"
    again, second = run.ask("page", key=key, **page)
    assert (verdict, again, second) == ("accepted", "accepted", first | {"duplicate": True})
    assert sql("select pages, inserted from odoo_seed.sync_runs") == [(2, 2)]
    assert shadow(sql) == [(1, "n"), (9, "n")]


def test_no_gap_can_hide(sql: Sql) -> None:
    snapshot(sql, [row(number) for number in range(1, 10)])
    run = Run(sql, full=True)
    assert run.page(PROJECT, [row(1)], 0, 3)[0] == "accepted"
    for after, upto in ((0, 3), (4, 6), (3, 3), (3, 2)):
        assert run.page(PROJECT, [], after, upto)[0] == "page_out_of_order"
    assert [number for number, _ in shadow(sql)] == [1, 4, 5, 6, 7, 8, 9]
    assert run.page(PROJECT, [row(4)], 3, None)[0] == "accepted"
    assert run.page(PROJECT, [], 4, None)[0] == "page_out_of_order"
    done = run.finish(cursors={PROJECT: "2027-01-01 00:00:00"})
    assert (done["status"], done["errors"][0]["entity"]) == ("partial", TASK)
    assert sql("select entity, cursor like '2027%%' from odoo.sync_cursors order by 1") == [
        (PROJECT, True),
        (TASK, False),
    ]


@pytest.mark.parametrize(
    "body",
    [
        {"entity": "res.partner", "rows": [], "span": [0, None]},
        {"rows": [], "span": [0, None]},
        {"entity": PROJECT, "rows": {}, "span": [0, None]},
        {"entity": PROJECT, "rows": [{"raw": {"id": "1"}}], "span": [0, None]},
        {"entity": PROJECT, "rows": [{"raw": {"id": -1}}], "span": [0, None]},
        {"entity": PROJECT, "rows": [{}], "span": [0, None]},
        {"entity": PROJECT, "rows": [], "span": None},
        {"entity": PROJECT, "rows": []},
        {"entity": PROJECT, "rows": [], "span": [0, None], "errors": {}},
        {"entity": PROJECT, "rows": [row(n + 1) for n in range(5001)], "span": [0, None]},
    ],
)
def test_what_is_no_page_is_refused(sql: Sql, body: dict[str, Any]) -> None:
    run = Run(sql, full=True)
    try:
        verdict, _ = run.ask("page", **body)
    except psycopg2.errors.DataError:
        verdict = "invalid_page"
    assert verdict == "invalid_page"
    assert shadow(sql) == []


def test_one_run_at_a_time(sql: Sql) -> None:
    first = Run(sql, full=True)
    assert Run(sql, full=True).begun == ("run_in_progress", None)
    assert Run(sql, full=True, instance="other").begun[0] == "accepted"
    assert Run(sql, sync="modules", full=True).begun[0] == "accepted"
    second = Run(sql, full=True, take_over=True)
    assert second.begun[0] == "accepted"
    assert first.page(PROJECT, [row(1)])[0] == "run_ended"
    assert first.ask("finish")[0] == "run_ended"
    # Killed, and nothing heard since.
    sql("update odoo_seed.sync_runs set heard_at = now() - interval '6 min' where run = %s", second.id)
    assert snapshot(sql)["status"] == "success"
    ended = sql(
        "select status, finished_at is null, errors -> 0 ->> 'error' from odoo_seed.sync_runs "
        "where sync = 'finance' and instance_id = 1 order by id"
    )
    assert [found[0] for found in ended] == ["failed", "failed", "success"]
    assert ended[0][2].startswith("interrupted")


def test_two_begin_at_once_and_one_of_them_may(sql: Sql) -> None:
    verdicts: list[str] = []

    def begin(number: int) -> None:
        connection = sql.server.connect(database=sql.database)
        body = json.dumps({"action": "begin", "run": str(uuid.uuid4()), "full": True})
        statement = "select verdict from odoo_seed.sync_request('finance', 'x', gen_random_uuid(), %s, %s, now())"
        verdicts.append(rows(connection, statement, body, secrets.token_hex(32))[0][0])
        connection.commit()
        connection.close()

    threads = [threading.Thread(target=begin, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(verdicts) == ["accepted", *["run_in_progress"] * 3]


def test_an_unreadable_record_is_neither_lost_nor_forgotten(sql: Sql) -> None:
    snapshot(sql, [row(1), row(2), row(3)])
    run = Run(sql, full=True)
    run.page(PROJECT, [row(1)], errors=[{"odoo_id": 2, "error": "no access"}])
    run.page(TASK, [])
    done = run.finish(cursors={PROJECT: "2028-01-01 00:00:00", TASK: "2028-01-01 00:00:00"})
    assert (done["status"], done["error_count"], done["deleted"]) == ("partial", 1, 1)
    assert done["errors"] == [{"entity": PROJECT, "odoo_id": 2, "error": "no access"}]
    assert [number for number, _ in shadow(sql)] == [1, 2]
    assert sql("select left(cursor, 4) from odoo.sync_cursors order by entity") == [("2026",), ("2028",)]


def test_an_aborted_run_has_failed(sql: Sql) -> None:
    run = Run(sql, full=True)
    run.page(PROJECT, [row(1)])
    run.page(TASK, [])
    assert run.finish(failed=True, errors=[{"error": "KeyboardInterrupt"}], cursors={})["status"] == "failed"
    assert sql("select 1 from odoo.sync_cursors") == []


def test_of_an_unknown_run_and_an_inactive_instance_nothing_is_taken(sql: Sql) -> None:
    run = Run(sql, full=True)
    run.id = str(uuid.uuid4())
    assert run.page(PROJECT, [row(1)])[0] == "unknown_run"
    sql("update odoo.instances set active = false")
    assert Run(sql, full=True).begun[0] == "instance_inactive"
    assert sql("select count(*) from odoo_seed.sync_runs") == [(1,)]


def test_a_captured_request_is_not_taken_under_another_key(sql: Sql) -> None:
    signature, body = secrets.token_hex(32), json.dumps({"action": "begin", "run": str(uuid.uuid4()), "full": True})
    verdicts = [
        sql(
            "select verdict from odoo_seed.sync_request('finance', %s, gen_random_uuid(), %s, %s, now())",
            name,
            body,
            signature,
        )
        for name in ("a", "a", "b")
    ]
    assert verdicts == [[("accepted",)], [("replayed_signature",)], [("replayed_signature",)]]


# --- modules


def module(number: int, name: str, state: str = "installed", license: str = "LGPL-3", source: str = "ce") -> Any:
    raw = {"id": number, "name": name, "shortdesc": name, "latest_version": "19.0", "state": state, "author": "x"}
    return {"source": source, "raw": raw | {"license": license}}


def inventory(sql: Sql, *found: Any, edition: str = "ce") -> Any:
    run = Run(sql, sync="modules", full=True, edition=edition)
    assert run.page(MODULE, found)[0] == "accepted"
    return run.finish()


def test_modules_are_marked_when_uninstalled_or_gone(sql: Sql) -> None:
    marks = "select name, state, uninstalled_at is not null, gone_at is not null from odoo.modules order by 1"
    inventory(sql, module(1, "a"), module(2, "b"), module(3, "c"), module(4, "d", "uninstalled"))
    assert inventory(sql, module(1, "a", "uninstalled"), module(3, "c", "to upgrade"))["status"] == "success"
    assert sql(marks) == [
        ("a", "uninstalled", True, False),
        ("b", "uninstalled", True, True),
        ("c", "to upgrade", False, False),
        ("d", "uninstalled", False, True),
    ]
    inventory(sql, module(1, "a"), module(9, "b"), module(3, "c"), module(4, "d", "uninstalled"))
    assert [found[1:] for found in sql(marks)] == [("installed", False, False)] * 3 + [("uninstalled", False, False)]
    assert sql("select count(*) from odoo.modules where last_seen > first_seen") == [(4,)]


def test_an_enterprise_licence_is_reported(sql: Sql) -> None:
    planted = [module(1, "web"), module(2, "studio", license="OEEL-1", source="enterprise")]
    offered = module(3, "sign", "uninstallable", "OEEL-1", "enterprise")
    done = inventory(sql, *planted, offered)
    assert (done["status"], [warning["module"] for warning in done["warnings"]]) == ("success", ["studio"])
    assert inventory(sql, *planted, offered, edition="enterprise")["warnings"] == []


# --- drift


def drift(sql: Sql) -> dict[str, list[Any]]:
    return {
        "missing": sql("select instance, entity, external_ref, name from odoo_seed.v_missing_in_odoo order by 1, 2, 3"),
        "orphan": sql(
            "select instance, entity, odoo_id, duplicate_of from odoo_seed.v_orphan_in_odoo order by 1, 2, 3"
        ),
        "name": sql(
            "select instance, entity, odoo_id, differs_from_seed, renamed from odoo_seed.v_name_drift order by 1, 2, 3"
        ),
    }


def seed(sql: Sql, entity: str, ref: str, name: str | None, instance: str = "default") -> None:
    sql(
        f"insert into odoo_seed.{entity}s (instance_id, external_ref, name) "
        "select id, %s, %s from odoo.instances where name = %s",
        ref,
        name,
        instance,
    )


def test_drift_with_null_names_copies_and_instances(sql: Sql) -> None:
    copied = [
        row(1, "A", "a"),
        row(2, "A (copy)", "a"),
        row(3, None, "b"),
        row(4, "C", "c"),
        row(5, "D"),
        row(6, None, "e"),
    ]
    snapshot(sql, copied, [row(1, "T", "a"), row(2, "U", "u", active=False)])
    snapshot(sql, [row(1, "A", "z")], instance="other")
    for ref, name in (("a", "A"), ("b", "B"), ("c", None), ("e", None), ("m", "Missing")):
        seed(sql, "project", ref, name)
    seed(sql, "task", "a", "T")
    seed(sql, "task", "u", "U")
    seed(sql, "task", "z", None)
    seed(sql, "project", "a", "A", "other")
    assert drift(sql) == {
        "missing": [
            ("default", "project", "m", "Missing"),
            ("default", "task", "z", None),
            ("other", "project", "a", "A"),
        ],
        "orphan": [("default", "project", 2, 1), ("default", "project", 5, None), ("other", "project", 1, None)],
        "name": [("default", "project", 3, True, False), ("default", "project", 4, True, False)],
    }


def test_a_rename_is_drift_until_the_cycle_after(sql: Sql) -> None:
    def renamed() -> list[Any]:
        return sql("select previous_name, name from odoo_seed.v_name_drift where renamed")

    snapshot(sql, [row(1, "A")])
    assert renamed() == []
    snapshot(sql, [row(1, "B")])
    assert renamed() == [("A", "B")]
    snapshot(sql, [row(1, "B")], instance="other")
    failed = Run(sql, full=True)
    failed.page(PROJECT, [row(1, "C")])
    assert renamed() == [("B", "C")]
    failed.finish(failed=True)
    snapshot(sql, [row(1, None)])
    assert renamed() == [("B", None)]
    snapshot(sql, [row(1, "B")])
    assert renamed() == [(None, "B")]
    snapshot(sql, [row(1, "B")])
    assert renamed() == []


NAMES = st.sampled_from([None, "A", "B"])
RECORDS = st.lists(st.tuples(st.sampled_from([None, "x", "y", "z"]), NAMES), max_size=6)
SEEDS = st.dictionaries(st.sampled_from(["x", "y", "z", "w"]), NAMES)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(cycles=st.lists(RECORDS, min_size=1, max_size=3), seeds=SEEDS)
def test_law_8_the_views_name_exactly_the_differences(sql: Sql, cycles: list[Any], seeds: dict[str, Any]) -> None:
    instance = f"law-{uuid.uuid4().hex[:8]}"
    for records in cycles:
        snapshot(sql, [row(n, name, ref) for n, (ref, name) in enumerate(records, 1)], instance=instance)
    for ref, name in seeds.items():
        seed(sql, "project", ref, name, instance)
    last, before = cycles[-1], cycles[-2] if len(cycles) > 1 else []
    first = {ref: n for n, (ref, _) in reversed(list(enumerate(last, 1))) if ref}
    orphans = {n for n, (ref, _) in enumerate(last, 1) if ref not in seeds or first[ref] != n}
    differs = {n for ref, n in first.items() if ref in seeds and seeds[ref] != last[n - 1][1]}
    renamed = {n for n, ((_, now), (_, then)) in enumerate(zip(last, before, strict=False), 1) if now != then}
    found = {kind: [line for line in lines if line[0] == instance] for kind, lines in drift(sql).items()}
    assert sorted(line[2] for line in found["missing"]) == sorted(set(seeds) - set(first))
    assert [line[2] for line in found["orphan"]] == sorted(orphans)
    assert {line[2] for line in found["name"] if line[3]} == differs
    assert {line[2] for line in found["name"] if line[4]} == renamed
    assert len(found["name"]) == len(differs | renamed)


def test_twenty_thousand_tasks_in_pages_of_a_thousand(sql: Sql) -> None:
    """Set-based: a page of a thousand is one call. The bound is loose, so that a busy machine passes."""
    started = time.monotonic()
    run = Run(sql, full=True)
    run.page(PROJECT, [])
    for page in range(20):
        found = [row(page * 1000 + n, f"Task {n}", f"r{page}-{n}", project_id=n % 7) for n in range(1, 1001)]
        assert run.page(TASK, found, page * 1000, (page + 1) * 1000 if page < 19 else None)[0] == "accepted"
    assert run.finish(cursors={PROJECT: "2026-01-01 00:00:00", TASK: "2026-01-01 00:00:00"})["inserted"] == 20_000
    run = Run(sql)
    assert run.ask("ids", entity=PROJECT, span=[0, None], ids="{}")[0] == "accepted"
    _, answer = run.ask("ids", entity=TASK, span=[0, None], ids="{[1,10000],[10002,20001]}")
    assert (answer["deleted"], answer["unknown"]) == (1, [20_001])
    assert time.monotonic() - started < 40
