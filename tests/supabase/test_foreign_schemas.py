"""Reading through a schema map and cleaning up, on a real PostgreSQL: our schema, and projects with other ones."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator

import psycopg2
import pytest

from ipai_harness.cleaning import clean_up, clean_up_events
from ipai_harness.errors import HarnessError, SchemaMapInvalid
from ipai_harness.observe.rows import Observer
from ipai_harness.schema_map import SchemaMap
from ipai_harness.stack.supabase import SUPERUSER
from tests.supabase.conftest import Sql, rows

TEST = "verify-0000beef"
ANONYMOUS = """
    insert into app.outbox (event_id, source, event, model, record_id, data) values (%s, '', 'a.b', 'a', 1, '{}')
"""
OUTBOX = """
    create schema app;
    create table app.outbox (
      n bigint generated always as identity, event_id uuid primary key, source text not null, event text not null,
      model text not null, record_id bigint not null, data text not null, state text not null default 'queued',
      created_at timestamptz not null default clock_timestamp());
    create table app.log (id bigint generated always as identity, event_id uuid not null references app.outbox);
"""
MAP = {
    "instances": False, "shadow_projects": False, "shadow_tasks": False,
    "log": {"table": "app.log", "key": "event_id", "instance": False},
    "events": {
        "table": "app.outbox", "id": "n", "key": "event_id", "instance": "source", "event_type": "event",
        "aggregate_type": "model", "aggregate_id": "record_id", "payload": "data", "status": "state",
        "sequence": False, "error": False, "received_at": "created_at", "processed_at": False,
        "status_values": {"pending": ["queued"], "completed": ["done"]},
    },
}  # fmt: skip


@pytest.fixture
def dsn(sql: Sql) -> str:
    server = sql.server
    return server.cluster.dsn("sql", "postgres", server.password)


def as_role(sql: Sql, role: str) -> Iterator[str]:
    """A login of a role's rights."""
    name = f"login_{uuid.uuid4().hex[:8]}"
    with contextlib.closing(sql.server.connect(SUPERUSER, "sql")) as admin:
        rows(admin, f"create role {name} login bypassrls in role {role} password '{sql.server.password}'")
        try:
            yield sql.server.cluster.dsn("sql", name, sql.server.password)
        finally:
            rows(admin, f"drop role {name}")


@pytest.fixture
def service(sql: Sql) -> Iterator[str]:
    yield from as_role(sql, "service_role")


def counts(sql: Sql, instance: str) -> list[int]:
    """Rows of each kind that an instance has."""
    tables = ("webhook_events", "event_log", "entity_mappings", "sync_cursors")
    found = [
        sql(f"select count(*) from odoo.{table} where instance_id in (select id from odoo.instances where name = %s)",
            instance)[0][0]
        for table in tables
    ]  # fmt: skip
    signatures = sql("select count(*) from odoo.accepted_signatures where instance = %s", instance)
    return [*found, signatures[0][0], sql("select count(*) from odoo.instances where name = %s", instance)[0][0]]


def fill(sql: Sql, instance: str) -> list[int]:
    """An instance with events, processed and not, a run of a sync, shadows and seeds; the ids of its events."""
    ids = [sql.ingest(str(n), n, instance=instance)[0] for n in (1, 2, 3)]
    sql("select odoo.process_event(%s)", ids[0])
    [(instance_id,)] = sql("select id from odoo.instances where name = %s", instance)
    sql("insert into odoo.sync_cursors values (%s, 'finance', '7', now())", instance_id)
    sql("insert into odoo_seed.projects (instance_id, external_ref, name) values (%s, 'p', 'P')", instance_id)
    shadow = "insert into odoo_seed.shadow_projects (instance_id, odoo_id, name, raw, active)"
    sql(f"{shadow} values (%s, 1, 'P', '{{}}', true)", instance_id)
    return ids


# --- reading


def test_our_schema_is_read(sql: Sql, dsn: str) -> None:
    fill(sql, TEST)
    sql.ingest("elsewhere")
    observer = Observer(dsn, TEST)
    observer.check()
    events = observer.events()
    assert [(event.aggregate_id, event.sequence, event.status) for event in events] == [
        ("1", 1, "completed"), ("2", 2, "pending"), ("3", 3, "pending"),
    ]  # fmt: skip
    assert [event.key for event in observer.events([events[1].key])] == [events[1].key]
    assert [row["name"] for row in observer.rows("shadow_projects")] == ["P"]
    assert len(observer.rows("log")) == 3


def test_another_schema_is_read(sql: Sql, dsn: str) -> None:
    sql(OUTBOX)
    keys = [str(uuid.uuid4()) for _ in range(3)]
    for key, source, state in zip(keys, (TEST, TEST, "prod"), ("queued", "done", "stuck"), strict=True):
        sql(
            "insert into app.outbox (event_id, source, event, model, record_id, data, state) "
            "values (%s, %s, 'account.move.posted', 'account.move', 42, '{\"n\":1.50}', %s)", key, source, state,
        )  # fmt: skip
    observer = Observer(dsn, TEST, SchemaMap.of(MAP))
    observer.check()
    assert [(one.key, one.aggregate_id, one.status, one.raw_status, one.payload) for one in observer.events()] == [
        (keys[0], "42", "pending", "queued", {"n": 1.5}), (keys[1], "42", "completed", "done", {"n": 1.5}),
    ]  # fmt: skip
    [other] = Observer(dsn, "prod", SchemaMap.of(MAP)).events()
    assert (other.status, other.sequence, other.error, other.processed_at) == ("stuck", None, None, None)


def test_events_without_an_instance_are_read_by_their_keys(sql: Sql, dsn: str) -> None:
    sql(OUTBOX)
    key = str(uuid.uuid4())
    sql(ANONYMOUS, key)
    observer = Observer(dsn, TEST, SchemaMap.of({**MAP, "events": {**MAP["events"], "instance": False}}))  # type: ignore[dict-item]
    assert [event.key for event in observer.events([key])] == [key]
    with pytest.raises(SchemaMapInvalid, match="ask for single keys"):
        observer.events()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"table": "app.outbocks"}, r"events\.table names app\.outbocks, which the database has not"),
        ({"key": "event_idd"}, r"events\.key names event_idd, which app\.outbox has not: did you mean event_id\?"),
        ({"payload": "zzz"}, r"events\.payload names zzz, .* its columns are n, event_id"),
    ],
)
def test_a_map_that_does_not_fit_is_told(sql: Sql, dsn: str, changes: dict[str, str], said: str) -> None:
    sql(OUTBOX)
    spoilt = SchemaMap.of({**MAP, "events": {**MAP["events"], **changes}})  # type: ignore[dict-item]
    with pytest.raises(SchemaMapInvalid, match=said):
        Observer(dsn, TEST, spoilt).check()


def test_it_only_reads_and_hides_the_password(sql: Sql, dsn: str) -> None:
    with pytest.raises(HarnessError, match="read-only"):
        Observer(dsn, TEST)._query("insert into odoo.instances (name) values ('x') returning 1", ())
    with pytest.raises(HarnessError, match="no connection") as failed:
        Observer("postgresql://u:pa55word@127.0.0.1:1/x", TEST).events()
    assert "pa55word" not in str(failed.value)


# --- cleaning


def test_everything_of_the_instance_goes_and_nothing_else(sql: Sql, dsn: str) -> None:
    fill(sql, TEST)
    fill(sql, "prod")
    before = counts(sql, "prod")
    assert counts(sql, TEST) == [3, 3, 1, 1, 3, 1]

    cleaned = clean_up(dsn, TEST)

    assert cleaned.clean, cleaned.remains
    assert cleaned.removed["odoo.event_log"] == 3
    assert cleaned.removed["odoo_seed.shadow_projects"] == 1
    assert counts(sql, TEST) == [0] * 6
    assert sql("select count(*) from odoo.event_log") == [(3,)]
    assert counts(sql, "prod") == before
    assert clean_up(dsn, TEST).removed == {}


def test_the_log_is_append_only_again_afterwards(sql: Sql, dsn: str) -> None:
    fill(sql, TEST)
    clean_up(dsn, TEST)
    sql.ingest()
    with pytest.raises(psycopg2.Error, match="append-only"):
        sql("delete from odoo.event_log")


def test_rows_that_refer_to_the_events_go_with_them(sql: Sql, dsn: str) -> None:
    ids = fill(sql, TEST)
    fill(sql, "prod")
    sql("create schema app")
    sql("create table app.effects (id bigint primary key, event_id bigint references odoo.webhook_events (id))")
    sql("create table app.parts (effect_id bigint references app.effects (id))")
    sql("insert into app.effects select id, id from odoo.webhook_events")
    sql("insert into app.parts select id from app.effects")

    assert clean_up(dsn, TEST).clean
    assert sql("select count(*) from app.effects where event_id = any(%s)", ids) == [(0,)]
    assert sql("select count(*) from app.parts") == [(3,)]
    sql("drop schema app cascade")


def test_a_superuser_leaves_nothing_dangling(sql: Sql) -> None:
    """What the log is emptied with must not hold for the tables after it."""
    fill(sql, TEST)
    sql("create schema app")
    sql(
        "create table app.effects (i bigint, k uuid, foreign key (i, k) "
        "references odoo.webhook_events (instance_id, idempotency_key))"
    )
    sql("insert into app.effects select instance_id, idempotency_key from odoo.webhook_events limit 1")
    try:
        with contextlib.closing(sql.server.connect(SUPERUSER, "sql")) as admin:
            cleaned = clean_up(admin.dsn, TEST)
        assert cleaned.removed["odoo.event_log"] == 3
        assert cleaned.remains == {
            "odoo.webhook_events": (3, "other rows refer to them"), "odoo.instances": (1, "other rows refer to them"),
        }  # fmt: skip
        assert counts(sql, TEST) == [3, 0, 0, 0, 0, 1]
    finally:
        sql("drop schema app cascade")


def test_a_role_that_may_not_says_what_remains(sql: Sql, service: str) -> None:
    fill(sql, TEST)
    cleaned = clean_up(service, TEST)

    assert not cleaned.clean
    assert counts(sql, TEST)[0] == 0
    assert {name: count for name, (count, _) in cleaned.remains.items()} == {
        "odoo.accepted_signatures": -1, "odoo.event_log": 3, "odoo_seed.shadow_projects": 1,
        "odoo_seed.sync_pages": -1, "odoo.instances": 1,
    }  # fmt: skip
    assert "permission denied" in cleaned.remains["odoo.event_log"][1]


def test_the_instances_of_others_are_not_touched(dsn: str) -> None:
    for instance in ("default", "prod", "very-0000"):
        with pytest.raises(HarnessError, match="is not a test's"):
            clean_up(dsn, instance)
        with pytest.raises(HarnessError, match="is not a test's"):
            clean_up_events(dsn, SchemaMap.ours(), instance, [])


def test_another_schema_is_cleaned_by_keys(sql: Sql, dsn: str) -> None:
    sql(OUTBOX)
    keys = [str(uuid.uuid4()) for _ in range(2)]
    for key in keys:
        sql(ANONYMOUS, key)
        sql("insert into app.log (event_id) values (%s)", key)
    cleaned = clean_up_events(dsn, SchemaMap.of(MAP), TEST, keys[:1])
    assert cleaned.removed == {"app.log": 1, "app.outbox": 1}
    assert sql("select event_id::text from app.outbox") == [(keys[1],)]
