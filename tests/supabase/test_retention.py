"""What is pruned by age and what never is; how gold views are refreshed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import psycopg2.errors
import pytest

from ipai_harness.stack.supabase import SUPERUSER
from tests.supabase.conftest import Sql, rows

OLD, YOUNG = "interval '91 days'", "interval '89 days'"


def prune(sql: Sql, limit: int = 50_000) -> dict[str, int]:
    return {str(subject): pruned for subject, pruned in sql("select * from ops.prune(%s)", limit) if pruned}


def event(sql: Sql, aggregate: str, age: str, status: str = "completed", sequence: int | None = None) -> int:
    """The id of an event as it is after processing."""
    outcome = "applied" if status == "completed" else None
    error = "because" if status == "failed" else None
    sql("insert into odoo.instances (name) values ('default') on conflict do nothing")
    [(event_id,)] = sql(
        "insert into odoo.webhook_events (instance_id, idempotency_key, event_type, aggregate_type, aggregate_id, "
        f"payload, received_at, status, processed_at, outcome, error_message, sequence) select id, gen_random_uuid(), "
        f"'a.b', 'account.move', %s, '{{}}', now() - {age}, %s::text, "
        f"case when %s in ('completed', 'failed') then now() - {age} end, %s, %s, %s from odoo.instances returning id",
        aggregate, status, status, outcome, error, sequence,
    )  # fmt: skip
    return int(event_id)


def superseded(sql: Sql, aggregate: str) -> int:
    """The id of an old event that another of its type has followed."""
    old = event(sql, aggregate, OLD)
    event(sql, aggregate, YOUNG)
    return old


def events(sql: Sql) -> list[int]:
    return [found for (found,) in sql("select id from odoo.webhook_events order by id")]


def test_completed_events_go_by_age_and_nothing_else_does(sql: Sql) -> None:
    old = event(sql, "1", OLD)
    stay = [event(sql, "1", YOUNG)]
    stay += [event(sql, "1", OLD, status) for status in ("pending", "failed", "processing")]
    stay.append(event(sql, "1", YOUNG))
    assert prune(sql) == {"odoo.webhook_events": 1}
    assert events(sql) == stay
    assert old not in stay
    assert prune(sql) == {}


def test_one_that_was_received_long_ago_and_completed_lately_stays(sql: Sql) -> None:
    superseded(sql, "1")
    sql("update odoo.webhook_events set processed_at = now()")
    assert prune(sql) == {}
    assert len(events(sql)) == 2


def test_the_last_of_each_type_stays(sql: Sql) -> None:
    """Gold views ask for the last invoice.posted although invoice.paid came later."""
    other = event(sql, "1", OLD)
    sql("update odoo.webhook_events set event_type = 'b.c'")
    gone, last = event(sql, "1", OLD), event(sql, "1", OLD)
    elsewhere = event(sql, "2", OLD)
    late = event(sql, "1", OLD)
    sql("update odoo.webhook_events set outcome = 'superseded' where id = %s", late)
    assert prune(sql) == {"odoo.webhook_events": 2}
    assert events(sql) == [other, last, elsewhere]
    assert gone not in events(sql)


def test_what_took_effect_last_stays_and_a_late_resend_changes_nothing(sql: Sql) -> None:
    keys = ["00000000-0000-0000-0000-00000000000" + str(number) for number in (1, 2)]
    for sequence, key in enumerate(keys, 1):
        sql.ingest(sequence=sequence, key=key)
    sql("select * from odoo.process_event(1)")
    assert sql("select sequence, outcome from odoo.webhook_events order by id") == [(1, "applied"), (2, "applied")]
    sql(f"update odoo.webhook_events set received_at = now() - {OLD}, processed_at = now() - {OLD}")
    assert prune(sql) == {"odoo.webhook_events": 1}
    assert sql("select sequence from odoo.webhook_events") == [(2,)]
    # The newest is still known; the older one is stored again, and superseded.
    assert sql.ingest(sequence=2, key=keys[1])[1:] == (True, "duplicate")
    event_id, duplicate, verdict = sql.ingest(sequence=1, key=keys[0])
    assert (duplicate, verdict) == (False, "accepted")
    assert sql("select completed, superseded from odoo.process_event(%s)", event_id) == [(1, 1)]
    assert sql("select sequence, supabase_id from odoo.entity_mappings") == [(2, "2")]


def test_the_log_stays(sql: Sql) -> None:
    sql.ingest(sequence=1)
    state = "status = 'completed', outcome = 'superseded'"
    sql(f"update odoo.webhook_events set {state}, processed_at = now() - {OLD}, received_at = now() - {OLD}")
    assert prune(sql) == {"odoo.webhook_events": 1}
    assert sql("select count(*) from odoo.event_log") == [(1,)]
    sql.ingest(sequence=4)
    assert sql("select missing from odoo.event_log order by id desc limit 1") == [(2,)]


def test_no_more_than_the_limit_at_once(sql: Sql) -> None:
    for _ in range(5):
        event(sql, "1", OLD)
    event(sql, "1", YOUNG)
    assert prune(sql, 2) == {"odoo.webhook_events": 2}
    assert prune(sql) == {"odoo.webhook_events": 3}
    with pytest.raises(psycopg2.errors.InvalidParameterValue):
        prune(sql, 0)


def test_what_somebody_else_has_in_hand_is_passed_over(sql: Sql) -> None:
    first, second = superseded(sql, "1"), superseded(sql, "2")
    other = sql.connect()
    other.autocommit = False
    rows(other, "select from odoo.webhook_events where id = %s for update", first)
    assert prune(sql) == {"odoo.webhook_events": 1}
    other.rollback()
    assert first in events(sql)
    assert second not in events(sql)


def run(sql: Sql, age: str, status: str, sync: str = "finance") -> int:
    sql("insert into odoo.instances (name) values ('default') on conflict do nothing")
    [(run_id,)] = sql(
        "insert into odoo_seed.sync_runs (run, instance_id, sync, mode, status, finished_at, error_count) "
        f"select gen_random_uuid(), id, %s, 'full', %s::text, case when %s <> 'running' then now() - {age} end, "
        "case when %s = 'success' then 0 else 1 end from odoo.instances returning id",
        sync, status, status, status,
    )  # fmt: skip
    sql(
        "insert into odoo_seed.sync_pages (instance_id, key, run_id, answer, applied_at) "
        f"select id, gen_random_uuid(), %s, '{{}}', now() - {age} from odoo.instances",
        run_id,
    )
    return int(run_id)


def test_runs_go_but_for_the_last_two_complete_ones(sql: Sql) -> None:
    gone = [run(sql, OLD, "success"), run(sql, OLD, "failed")]
    stay = [run(sql, OLD, "success"), run(sql, OLD, "failed"), run(sql, OLD, "partial"), run(sql, OLD, "running")]
    stay += [run(sql, OLD, "success", "modules")]
    pages = {"odoo_seed.sync_pages": 6}
    cycles = sql("select previous_cycle from odoo_seed.v_cycles")
    assert prune(sql) == {"odoo_seed.sync_runs": len(gone), **pages}
    assert [found for (found,) in sql("select id from odoo_seed.sync_runs order by id")] == stay
    assert sql("select previous_cycle from odoo_seed.v_cycles") == cycles == [(stay[0],)]
    assert sql("select r.status from odoo_seed.sync_pages p join odoo_seed.sync_runs r on r.id = p.run_id") == [
        ("running",)
    ]


def test_pages_stay_for_as_long_as_somebody_may_ask_again(sql: Sql) -> None:
    run(sql, "interval '23 hours'", "success")
    assert prune(sql) == {}
    sql("update odoo_seed.sync_pages set applied_at = now() - interval '25 hours'")
    assert prune(sql) == {"odoo_seed.sync_pages": 1}


def test_tombstones_go_by_age(sql: Sql) -> None:
    sql("insert into odoo.instances (name) values ('default')")
    for number, age in ((1, "367 days"), (2, "360 days")):
        sql(
            "insert into odoo_seed.tombstones (instance_id, entity, odoo_id, run_id, raw, deleted_at) "
            f"select id, 'project.task', %s, 1, '{{}}', now() - interval '{age}' from odoo.instances",
            number,
        )
    assert prune(sql) == {"odoo_seed.tombstones": 1}
    assert sql("select odoo_id from odoo_seed.tombstones") == [(2,)]


def test_how_long_is_a_setting_with_a_floor(sql: Sql) -> None:
    for _ in range(2):
        event(sql, "1", "interval '20 days'")
    service = sql.connect("service_role")
    service.autocommit = False
    change = "update ops.retention set keep = %s where subject = 'odoo.webhook_events'"
    with pytest.raises(psycopg2.errors.CheckViolation):
        rows(service, change, "6 days")
    service.rollback()
    rows(service, change, "10 days")
    assert dict(rows(service, "select * from ops.prune()"))["odoo.webhook_events"] == 1
    service.rollback()


def test_the_old_are_found_by_their_index(sql: Sql) -> None:
    sql("insert into odoo.instances (name) values ('x')")
    sql(
        "insert into odoo.webhook_events (instance_id, idempotency_key, event_type, aggregate_type, aggregate_id, "
        "payload, status, outcome, processed_at, received_at) "
        "select 1, gen_random_uuid(), 'a.b', 'a', n::text, '{}', 'completed', 'applied', now(), "
        "now() - (60000 - n) * interval '5 min' from generate_series(1, 60000) n"
    )
    sql("analyze odoo.webhook_events")
    plan = "\n".join(
        row[0]
        for row in sql("explain select id from odoo.webhook_events where received_at < now() - interval '130 days'")
    )
    assert "webhook_events_age" in plan, plan


# ------------------------------------------------------------------------------------------------------ gold views


@pytest.fixture
def gold(sql: Sql) -> Iterator[Sql]:
    """The schema scout_gold as some project has it; put back as it was afterwards."""
    admin = sql.connect(user=SUPERUSER)
    existed = rows(admin, "select to_regnamespace('scout_gold') is not null") == [(True,)]
    rows(admin, "alter schema scout_gold rename to kept" if existed else "select 1")
    sql("create schema scout_gold; create schema app; create table app.sales (id int, amount int)")
    yield sql
    for connection in sql.opened:
        connection.rollback()
    sql("drop schema scout_gold cascade")
    rows(admin, "alter schema kept rename to scout_gold" if existed else "select 1")


def refresh(sql: Sql) -> list[tuple[Any, ...]]:
    return sql("select view_name, online, problem from ops.refresh_views()")


def test_every_view_is_refreshed_sources_first(gold: Sql) -> None:
    gold("create materialized view scout_gold.z_source as select id, amount from app.sales")
    gold("create view scout_gold.between as select sum(amount) as total from scout_gold.z_source")
    gold('create materialized view scout_gold."A reader" as select total from scout_gold.between')
    gold("create materialized view app.not_gold as select 1")
    gold("create unique index on scout_gold.z_source (id)")
    gold("insert into app.sales values (1, 5), (2, 7)")
    assert refresh(gold) == [("scout_gold.z_source", True, None), ('scout_gold."A reader"', False, None)]
    assert gold('select total from scout_gold."A reader"') == [(12,)]
    told = "select view_name, refreshed_at is not null, took is not null, problem from ops.refreshes order by 1"
    assert gold(told) == [('scout_gold."A reader"', True, True, None), ("scout_gold.z_source", True, True, None)]
    gold('drop materialized view scout_gold."A reader"')
    refresh(gold)
    assert [row[0] for row in gold(told)] == ["scout_gold.z_source"]


@pytest.mark.parametrize(
    "index",
    [
        "create index on scout_gold.v (id)",
        "create unique index on scout_gold.v (id) where id > 0",
        "create unique index on scout_gold.v (abs(id))",
    ],
)
def test_with_readers_waiting_where_no_index_allows_it_otherwise(gold: Sql, index: str) -> None:
    gold("create materialized view scout_gold.v as select id from app.sales")
    gold(index)
    assert refresh(gold) == [("scout_gold.v", False, None)]


def test_one_that_was_never_filled_is(gold: Sql) -> None:
    gold("create materialized view scout_gold.v as select id from app.sales with no data")
    gold("create unique index on scout_gold.v (id)")
    assert refresh(gold) == [("scout_gold.v", False, None)]
    assert refresh(gold) == [("scout_gold.v", True, None)]


def test_a_reader_does_not_wait_for_an_online_refresh(gold: Sql) -> None:
    gold("create materialized view scout_gold.v as select id from app.sales")
    gold("create unique index on scout_gold.v (id)")
    reader = gold.connect()
    reader.autocommit = False
    rows(reader, "select * from scout_gold.v")  # holds its lock until the end of the transaction
    assert refresh(gold) == [("scout_gold.v", True, None)]
    gold("create materialized view scout_gold.w as select id from app.sales")
    rows(reader, "select * from scout_gold.w")
    fine, (_, online, problem) = refresh(gold)
    assert (fine, online) == (("scout_gold.v", True, None), False)
    assert "lock timeout" in problem


def test_a_broken_view_does_not_keep_the_others_stale(gold: Sql) -> None:
    gold("insert into app.sales values (1, 1)")
    gold("create materialized view scout_gold.broken as select 1 / amount as n from app.sales")
    gold("create materialized view scout_gold.fine as select amount from app.sales")
    before = gold("select * from ops.refreshes")
    assert before == []
    refresh(gold)
    gold("insert into app.sales values (2, 0)")
    assert refresh(gold) == [("scout_gold.broken", False, "division by zero"), ("scout_gold.fine", False, None)]
    assert gold("select * from scout_gold.broken") == [(1,)]
    assert gold("select count(*) from scout_gold.fine") == [(2,)]
    stale = "select problem, refreshed_at < tried_at from ops.refreshes order by view_name"
    assert gold(stale) == [("division by zero", True), (None, False)]


def test_without_the_schema_there_is_nothing_to_do(gold: Sql) -> None:
    gold("drop schema scout_gold")
    assert refresh(gold) == []
    gold("create schema scout_gold")


def test_two_at_once_do_no_harm(gold: Sql) -> None:
    gold("create materialized view scout_gold.v as select id from app.sales")
    gold("insert into app.sales values (1, 1)")
    connections = [gold.connect() for _ in range(4)]
    threads = [threading.Thread(target=rows, args=(one, "select * from ops.refresh_views()")) for one in connections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert gold("select count(*) from scout_gold.v") == [(1,)]
    assert gold("select count(*) from ops.refreshes where problem is null") == [(1,)]
