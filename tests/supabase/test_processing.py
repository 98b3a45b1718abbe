"""odoo.process_event and odoo.sweep_events: order, handlers, failures, what a crash leaves behind."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.supabase.conftest import Sql, rows, until

HANDLERS = """
    create schema app;
    create table app.seen (n bigint generated always as identity, event_id bigint, sequence bigint, by text);
    create function app.note(odoo.webhook_events) returns void language sql set search_path = '' as
      $$ insert into app.seen (event_id, sequence, by) values ($1.id, $1.sequence, 'note') $$;
    create function app.again(odoo.webhook_events) returns void language sql set search_path = '' as
      $$ insert into app.seen (event_id, sequence, by) values ($1.id, $1.sequence, 'again') $$;
    create function app.picky(e odoo.webhook_events) returns void language plpgsql set search_path = '' as $$
    begin
      insert into app.seen (event_id, sequence, by) values (e.id, e.sequence, 'picky');
      if (e.payload ->> 'bad')::boolean then raise exception 'not to my taste'; end if;
    end $$;
    create function app.slow(odoo.webhook_events) returns void language sql set search_path = '' as
      $$ select pg_catalog.pg_sleep(60) $$;
"""


@pytest.fixture
def app(sql: Sql) -> Sql:
    sql(HANDLERS)
    return sql


def handle(sql: Sql, event_type: str, handler: str) -> None:
    sql(
        "insert into odoo.event_handlers (event_type, handler) values (%s, %s)",
        event_type,
        f"{handler}(odoo.webhook_events)",
    )


def process(sql: Sql, event_id: int) -> tuple[int, int, int, bool]:
    [counts] = sql("select * from odoo.process_event(%s)", event_id)
    return counts


def events(sql: Sql) -> list[tuple[object, ...]]:
    return sql("select sequence, status, outcome, retry_count from odoo.webhook_events order by id")


def mapped(sql: Sql) -> list[tuple[object, ...]]:
    return sql("select supabase_schema, supabase_table, supabase_id::bigint, sequence from odoo.entity_mappings")


def test_completed_and_mapped(sql: Sql) -> None:
    event_id, _, _ = sql.ingest("1", 1)
    assert process(sql, event_id) == (1, 0, 0, False)
    assert events(sql) == [(1, "completed", "applied", 0)]
    assert mapped(sql) == [("odoo", "webhook_events", event_id, 1)]
    assert sql("select processed_at >= received_at, error_message from odoo.webhook_events") == [(True, None)]
    assert process(sql, event_id) == (0, 0, 0, False)


def test_all_of_the_aggregate_in_the_order_of_sequence(app: Sql) -> None:
    handle(app, "account.move.*", "app.note")
    ids = [app.ingest("1", sequence)[0] for sequence in (3, 1, 2)]
    other, _, _ = app.ingest("2", 1)
    assert process(app, ids[1]) == (3, 0, 0, False)
    assert app("select sequence from app.seen order by n") == [(1,), (2,), (3,)]
    assert app("select status from odoo.webhook_events where id = %s", other) == [("pending",)]


def test_an_older_event_is_superseded_and_no_handler_is_called(app: Sql) -> None:
    handle(app, "account.move.posted", "app.note")
    newer, _, _ = app.ingest("1", 2)
    process(app, newer)
    older, _, _ = app.ingest("1", 1)
    assert process(app, older) == (1, 1, 0, False)
    assert events(app) == [(2, "completed", "applied", 0), (1, "completed", "superseded", 0)]
    assert app("select event_id from app.seen") == [(newer,)]
    assert mapped(app) == [("odoo", "webhook_events", newer, 2)]


def test_without_sequences_the_order_is_that_of_arrival(app: Sql) -> None:
    handle(app, "account.move.*", "app.note")
    ids = [app.ingest("1")[0] for _ in range(3)]
    process(app, ids[2])
    assert app("select event_id from app.seen order by n") == [(i,) for i in ids]
    assert mapped(app) == [("odoo", "webhook_events", ids[2], None)]


def test_events_with_and_without_sequence_mix(app: Sql) -> None:
    handle(app, "account.move.*", "app.note")
    ids = [app.ingest("1", sequence)[0] for sequence in (1, None, 2, None)]
    process(app, ids[0])
    assert app("select event_id from app.seen order by n") == [(i,) for i in ids]
    assert mapped(app) == [("odoo", "webhook_events", ids[3], 2)]
    late, _, _ = app.ingest("1", 1)
    assert process(app, late) == (1, 1, 0, False)


def test_handlers_are_matched_by_type_or_prefix_and_called_in_order(app: Sql) -> None:
    handle(app, "account.move.posted", "app.again")
    handle(app, "account.*", "app.note")
    handle(app, "account.mov.*", "app.picky")
    handle(app, "account.move", "app.picky")
    app(
        "insert into odoo.event_handlers (event_type, handler, enabled) "
        "values ('account.*', 'app.picky(odoo.webhook_events)', false)"
    )
    process(app, app.ingest("1", 1)[0])
    assert app("select by from app.seen order by n") == [("again",), ("note",)]


def test_a_handler_that_raises_fails_its_event_and_no_other(app: Sql) -> None:
    handle(app, "account.move.*", "app.note")
    handle(app, "account.move.*", "app.picky")
    ids = [app.ingest("1", n, payload='{"bad": true}' if n == 2 else "{}")[0] for n in (1, 2, 3)]
    assert process(app, ids[0]) == (2, 0, 1, False)
    assert [row[1] for row in events(app)] == ["completed", "failed", "completed"]
    # What its first handler did is undone with it.
    assert app("select event_id, by from app.seen order by n") == [
        (ids[0], "note"),
        (ids[0], "picky"),
        (ids[2], "note"),
        (ids[2], "picky"),
    ]
    [(message, count, due)] = app(
        "select error_message, retry_count, extract(epoch from next_retry_at - processed_at) "
        "from odoo.webhook_events where status = 'failed'"
    )
    assert message == "handler app.picky(odoo.webhook_events): not to my taste (SQLSTATE P0001)"
    assert count == 1
    assert 4.9 < due < 5.1


@pytest.mark.parametrize("handler", ["app.nowhere", "nowhere.at_all", "app.seen"])
def test_a_handler_that_does_not_exist_is_a_failure_that_says_so(app: Sql, handler: str) -> None:
    handle(app, "account.move.*", handler)
    process(app, app.ingest("1", 1)[0])
    [(status, message)] = app("select status, error_message from odoo.webhook_events")
    assert status == "failed"
    assert message.startswith(f"handler {handler}(odoo.webhook_events): no such function")


def test_a_handler_with_another_argument_cannot_be_registered(app: Sql) -> None:
    with pytest.raises(Exception, match="event_handlers_handler_form"):
        app("insert into odoo.event_handlers (event_type, handler) values ('a.b', 'pg_sleep(double precision)')")


def test_the_sweep_retries_with_growing_pauses_ten_times(app: Sql) -> None:
    handle(app, "account.move.*", "app.picky")
    process(app, app.ingest("1", 1, payload='{"bad": true}')[0])
    pauses = []
    for _ in range(10):
        [(pause,)] = app("select extract(epoch from next_retry_at - processed_at)::int from odoo.webhook_events")
        pauses.append(pause)
        assert app("select aggregates from odoo.sweep_events('0')") == [(0,)]  # not due yet
        app("update odoo.webhook_events set next_retry_at = clock_timestamp()")
        assert app("select aggregates, failed from odoo.sweep_events('0')") == [(1, 1)]
    assert pauses == [5 * 2**n for n in range(10)]
    assert app("select status, retry_count, next_retry_at from odoo.webhook_events") == [("failed", 11, None)]
    assert app("select aggregates from odoo.sweep_events('0')") == [(0,)]


def test_a_retry_that_succeeds_completes(app: Sql) -> None:
    handle(app, "account.move.*", "app.picky")
    event_id, _, _ = app.ingest("1", 1, payload='{"bad": true}')
    process(app, event_id)
    app("update odoo.event_handlers set handler = 'app.note(odoo.webhook_events)'")
    app("update odoo.webhook_events set next_retry_at = clock_timestamp()")
    assert app("select completed, failed from odoo.sweep_events('0')") == [(1, 0)]
    assert events(app) == [(1, "completed", "applied", 1)]


def test_a_retry_that_comes_after_something_newer_is_superseded(app: Sql) -> None:
    handle(app, "account.move.*", "app.picky")
    ids = [app.ingest("1", n, payload='{"bad": true}' if n == 1 else "{}")[0] for n in (1, 2)]
    process(app, ids[0])
    app("update odoo.webhook_events set next_retry_at = clock_timestamp() where status = 'failed'")
    assert app("select completed, superseded from odoo.sweep_events('0')") == [(1, 1)]
    assert mapped(app) == [("odoo", "webhook_events", ids[1], 2)]


def test_the_sweep_leaves_what_is_young(sql: Sql) -> None:
    sql.ingest("1", 1)
    assert sql("select aggregates from odoo.sweep_events()") == [(0,)]
    assert sql("select aggregates, completed from odoo.sweep_events('0')") == [(1, 1)]


def test_the_sweep_is_bounded(sql: Sql) -> None:
    for n in range(30):
        sql.ingest(str(n % 3), n // 3 + 1)
    swept = []
    while (counts := sql("select aggregates, completed from odoo.sweep_events('0', 8)")[0]) != (0, 0):
        swept.append(counts[1])
    assert swept == [8, 8, 8, 6]
    for arguments in ("'0', 0", "'0', null", "null"):
        with pytest.raises(Exception, match="p_limit"):
            sql(f"select odoo.sweep_events({arguments})")


def test_the_sweep_does_not_wait_for_an_aggregate_in_work(sql: Sql) -> None:
    sql.ingest("1", 1)
    sql.ingest("2", 1)
    holder = sql.connect()
    holder.autocommit = False
    lock = "select pg_advisory_xact_lock(odoo.aggregate_lock('process', id, 'account.move', '1')) from odoo.instances"
    rows(holder, lock)
    assert sql("select aggregates from odoo.sweep_events('0')") == [(1,)]
    holder.rollback()
    assert sql("select aggregates from odoo.sweep_events('0')") == [(1,)]


def test_left_in_processing_for_five_minutes_is_reclaimed(sql: Sql) -> None:
    sql.ingest("1", 1)
    sql("update odoo.webhook_events set status = 'processing'")
    assert sql("select processing_since is not null from odoo.webhook_events") == [(True,)]
    assert sql("select aggregates from odoo.sweep_events('0')") == [(0,)]
    sql("update odoo.webhook_events set processing_since = clock_timestamp() - interval '301 seconds'")
    assert sql("select completed from odoo.sweep_events('0')") == [(1,)]
    assert events(sql) == [(1, "completed", "applied", 0)]


def test_an_outside_consumer_that_is_taking_an_event_keeps_it(sql: Sql) -> None:
    event_id, _, _ = sql.ingest("1", 1)
    consumer = sql.connect()
    consumer.autocommit = False
    rows(consumer, "update odoo.webhook_events set status = 'processing' where status = 'pending' returning id")
    assert process(sql, event_id) == (0, 0, 0, False)
    consumer.commit()
    assert events(sql) == [(1, "processing", None, 0)]
    rows(consumer, "update odoo.webhook_events set status = 'completed', outcome = 'applied', processed_at = now()")
    consumer.commit()
    assert sql("select status, processing_since from odoo.webhook_events") == [("completed", None)]


def test_a_handler_that_runs_into_the_timeout_is_a_failure_and_ends_the_work(app: Sql) -> None:
    handle(app, "account.move.*", "app.slow")
    app.ingest("1", 1)
    app.ingest("2", 1)
    app("set statement_timeout = '300ms'")
    assert app("select aggregates, completed, failed from odoo.sweep_events('0')") == [(1, 0, 1)]
    [(message,)] = app("select error_message from odoo.webhook_events where status = 'failed'")
    assert "statement timeout (SQLSTATE 57014)" in message


def test_many_processes_at_once_call_each_handler_once_and_in_order(app: Sql) -> None:
    handle(app, "account.move.*", "app.note")
    ids = [app.ingest(str(n % 4), n // 4 + 1)[0] for n in range(80)]
    connections = [app.connect() for _ in range(8)]

    def worker(number: int) -> None:
        for event_id in ids[number::8]:
            rows(connections[number], "select odoo.process_event(%s)", event_id)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(worker, range(8)))
    assert app("select count(*), count(distinct event_id) from app.seen") == [(80, 80)]
    seen = app(
        "select e.aggregate_id, s.sequence from app.seen s join odoo.webhook_events e on e.id = event_id order by n"
    )
    for aggregate_id in "0123":
        assert [sequence for owner, sequence in seen if owner == aggregate_id] == list(range(1, 21))
    assert app("select distinct status, outcome from odoo.webhook_events") == [("completed", "applied")]


def test_ingest_does_not_wait_for_a_slow_handler(app: Sql) -> None:
    handle(app, "account.move.*", "app.slow")
    event_id, _, _ = app.ingest("1", 1)
    worker = app.connect()
    thread = threading.Thread(target=lambda: rows(worker, "select odoo.process_event(%s)", event_id))
    thread.start()
    until(
        lambda: (
            app("select 1 from pg_stat_activity where query like '%%process_event%%' and wait_event = 'PgSleep'")
            or app("select 1 from pg_locks where locktype = 'advisory' and granted")
        ),
        "the handler runs",
    )
    assert app.ingest("1", 2)[2] == "accepted"
    worker.cancel()
    thread.join(10)
    assert [row[1] for row in events(app)] == ["failed", "pending"]


def test_many_events_in_one_call(app: Sql) -> None:
    handle(app, "account.move.*", "app.note")
    ids = [app.ingest(str(n % 5), n // 5 + 1)[0] for n in range(20)]
    assert app("select * from odoo.process_events(%s)", [*ids[:12], 999]) == [(20, 0, 0, [])]
    assert app("select count(*) from app.seen") == [(20,)]


def test_a_cancelled_handler_leaves_the_rest_of_the_call_for_later(app: Sql) -> None:
    handle(app, "account.move.*", "app.slow")
    ids = [app.ingest(str(n), 1)[0] for n in range(3)]
    app("set statement_timeout = '300ms'")
    [(completed, _, failed, remaining)] = app("select * from odoo.process_events(%s)", ids)
    assert (completed, failed, len(remaining)) == (0, 1, 2)
    assert sorted(app("select id from odoo.webhook_events where status = 'pending'")) == sorted((i,) for i in remaining)


def test_no_such_event(sql: Sql) -> None:
    with pytest.raises(Exception, match="there is no event 99"):
        process(sql, 99)


@pytest.mark.parametrize(
    "statement",
    [
        "update odoo.webhook_events set status = 'done'",
        "update odoo.webhook_events set status = 'completed'",
        "update odoo.webhook_events set status = 'failed', processed_at = now()",
        "update odoo.webhook_events set outcome = 'applied'",
        "update odoo.webhook_events set processed_at = now()",
        "update odoo.webhook_events set next_retry_at = now()",
        "update odoo.webhook_events set retry_count = -1",
        "update odoo.webhook_events set payload = '[]'",
    ],
)
def test_states_that_cannot_be(sql: Sql, statement: str) -> None:
    sql.ingest()
    with pytest.raises(Exception, match="violates check constraint"):
        sql(statement)
