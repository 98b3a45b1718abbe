"""Who may do what, asked of PostgreSQL's own catalogs, and tried."""

from __future__ import annotations

import json
from typing import Any

import psycopg2.errors
import psycopg2.extensions
import pytest

from ipai_harness.stack.supabase import PLATFORM, SUPERUSER
from tests.supabase.conftest import PROJECT, Sql, rows

NAMES = ("catalog", "erp", "odoo", "odoo_seed", "ops", "scout_gold")
SCHEMAS = "({})".format(", ".join(f"'{name}'::regnamespace" for name in NAMES))
TABLES = f"select c.oid from pg_class c where c.relnamespace in {SCHEMAS} and c.relkind in ('r', 'p', 'v', 'm')"
FUNCTIONS = f"select p.oid from pg_proc p where p.pronamespace in {SCHEMAS}"


READABLE = {
    "catalog.assets": "catalog:read",
    "catalog.lineage_edges": "catalog:read",
    "catalog.tools": "catalog:read",
    "erp.bir_forms": "documents:read",
    "erp.document_objects": "documents:read",
    "erp.documents": "documents:read",
    "odoo.webhook_events": "events:read",
    "odoo_seed.shadow_projects": "shadow:read",
    "odoo_seed.shadow_tasks": "shadow:read",
}
"""What a signed-in person may select, and the permission that the person's token must hold."""
PUBLISHED = {"odoo.webhook_events", "odoo_seed.shadow_projects", "odoo_seed.shadow_tasks"}
"""Those whose rows are tried here; the others are tried where they are laid."""


def test_row_level_security_is_on_for_every_table(sql: Sql) -> None:
    every = f"pg_class where relnamespace in {SCHEMAS}"
    counted = f"select relnamespace::regnamespace::text, count(*) from {every} and relkind = 'r' group by 1"
    assert sorted(sql(counted)) == [
        ("catalog", 6),
        ("erp", 3),
        ("odoo", 8),
        ("odoo_seed", 7),
        ("ops", 3),
        ("scout_gold", 1),
    ]
    assert sql(f"select relname from {every} and relkind in ('r', 'p') and not relrowsecurity") == []


def test_the_policies_are_these_and_let_nobody_but_readers_in(sql: Sql) -> None:
    policies = sql(
        "select polrelid::regclass::text, polcmd, polroles::regrole[]::text, "
        "substring(pg_get_expr(polqual, polrelid) from $$\\( SELECT access.permits\\('([a-z:]+)'::text\\)$$), "
        "polwithcheck "
        f"from pg_policy where polrelid in (select oid from pg_class where relnamespace in {SCHEMAS}) order by 1"
    )
    assert policies == [(table, "r", "{authenticated}", right, None) for table, right in sorted(READABLE.items())]


def test_views_ask_with_the_rights_of_who_asks(sql: Sql) -> None:
    # A materialized view cannot; it is nobody's but service_role's, as below.
    views = f"from pg_class where relnamespace in {SCHEMAS} and relkind = 'v'"
    assert sql(f"select count(*) {views}") == [(8,)]
    assert sql(f"select relname {views} and not coalesce('security_invoker=true' = any (reloptions), false)") == []


@pytest.mark.parametrize(("role", "tables"), [("anon", set()), ("public", set()), ("authenticated", set(READABLE))])
def test_the_api_roles_may_select_these_and_nothing_else(sql: Sql, role: str, tables: set[str]) -> None:
    may = "select n from unnest(%s) n where has_schema_privilege(%s, n, %s) order by 1"
    assert sql(may, list(NAMES), role, "usage") == sorted({(table.partition(".")[0],) for table in tables})
    assert sql(may, list(NAMES), role, "create") == []
    selectable = sql(
        f"select t.oid::regclass::text from ({TABLES}) t where has_any_column_privilege(%s, t.oid, 'select')", role
    )
    assert {table for (table,) in selectable} == tables
    every = "insert, update, delete, truncate, references, trigger"
    assert (
        sql(
            f"select t.oid::regclass::text from ({TABLES}) t where has_table_privilege(%s, t.oid, '{every}') "
            "or has_any_column_privilege(%s, t.oid, 'insert, update, references')",
            role,
            role,
        )
        == []
    )
    assert (
        sql(
            f"select f.oid::regprocedure::text from ({FUNCTIONS}) f where has_function_privilege(%s, f.oid, 'execute')",
            role,
        )
        == []
    )
    assert (
        sql(
            f"select c.relname from pg_class c where relnamespace in {SCHEMAS} "
            "and case relkind when 'S' then has_sequence_privilege(%s, c.oid, 'usage, select, update') end",
            role,
        )
        == []
    )


def with_claims(sql: Sql, role: str, claims: dict[str, Any] | None) -> psycopg2.extensions.connection:
    """A connection as the platform's API makes it for a token with these claims."""
    connection = sql.connect(role)
    if claims is not None:
        rows(connection, "select set_config('request.jwt.claims', %s, false)", json.dumps({"role": role, **claims}))
    return connection


def permissions(*names: str) -> dict[str, Any]:
    return {"app_metadata": {"ipai_permissions": list(names)}}


@pytest.mark.parametrize(
    ("claims", "seen"),
    [
        (None, set()),
        (permissions(), set()),
        (permissions("catalog:read", "documents:read", "events", "*"), set()),
        (permissions("events:read"), {"odoo.webhook_events"}),
        (permissions("shadow:read"), {"odoo_seed.shadow_projects", "odoo_seed.shadow_tasks"}),
        (permissions("events:read", "shadow:read"), PUBLISHED),
        # What people may write into their own token permits nothing.
        ({"user_metadata": {"ipai_permissions": ["events:read", "shadow:read"]}}, set()),
        ({"ipai_permissions": ["events:read", "shadow:read"]}, set()),
        ({"app_metadata": {"ipai_permissions": "events:reader shadow:reader"}}, set()),
        ({"app_metadata": "events:read"}, set()),
    ],
)
def test_a_signed_in_person_sees_what_the_token_permits(
    sql: Sql, claims: dict[str, Any] | None, seen: set[str]
) -> None:
    sql.ingest()
    sql("insert into odoo_seed.shadow_projects (instance_id, odoo_id, raw) select id, 1, '{}' from odoo.instances")
    sql("insert into odoo_seed.shadow_tasks (instance_id, odoo_id, raw) select id, 1, '{}' from odoo.instances")
    person = with_claims(sql, "authenticated", claims)
    assert {table for table in PUBLISHED if rows(person, f"select count(*) from {table}") == [(1,)]} == seen
    for table in PUBLISHED:
        for statement in (
            f"delete from {table}",
            f"update {table} set instance_id = 1",
            f"insert into {table} default values",
        ):
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                rows(person, statement.format(table))


def test_anon_sees_nothing_whatever_the_token_says(sql: Sql) -> None:
    anonymous = with_claims(sql, "anon", permissions("events:read", "shadow:read"))
    for table in READABLE:
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            rows(anonymous, f"select * from {table}")


def test_realtime_publishes_these_tables(sql: Sql) -> None:
    published = sql(
        "select schemaname || '.' || tablename from pg_publication_tables where pubname = 'supabase_realtime'"
    )
    there = {table for (table,) in sql("select name from odoo.realtime_tables() where to_regclass(name) is not null")}
    assert {table for (table,) in published} == there
    assert there == PUBLISHED | {"catalog.assets"}


@pytest.mark.parametrize(
    ("role", "claims", "topic", "heard"),
    [
        ("authenticated", permissions("events:read"), "odoo-sync", True),
        ("authenticated", permissions("events:read"), "another", False),
        ("authenticated", permissions("shadow:read"), "odoo-sync", False),
        ("anon", permissions("events:read"), "odoo-sync", False),
    ],
)
def test_who_hears_the_private_channel(sql: Sql, role: str, claims: dict[str, Any], topic: str, heard: bool) -> None:
    connection = sql.connect()
    connection.autocommit = False
    rows(connection, "insert into realtime.messages (topic, extension) values (%s, 'broadcast')", topic)
    rows(connection, "select set_config('request.jwt.claims', %s, true)", json.dumps({"role": role, **claims}))
    rows(connection, "select set_config('realtime.topic', %s, true)", topic)
    rows(connection, f"set local role {role}")
    assert bool(rows(connection, "select 1 from realtime.messages")) is heard
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        rows(connection, "insert into realtime.messages (topic, extension) values (%s, 'broadcast')", topic)


@pytest.mark.parametrize("role", ["anon", "authenticated"])
@pytest.mark.parametrize(
    "statement",
    [
        "select * from odoo.event_log",
        "insert into odoo.webhook_events (event_type) values ('x')",
        "select odoo.realtime_status()",
        "select odoo.realtime_sent('x', null, '{}')",
        "select * from odoo.sync_cursors",
        "insert into odoo.instances (name) values ('x')",
        "select odoo.sweep_events()",
        "select odoo.ingest_event('x', gen_random_uuid(), 1, '{}', repeat('00', 32), now())",
        "select odoo_seed.sync_request('finance', 'x', gen_random_uuid(), '{}', repeat('00', 32), now())",
        "select * from odoo_seed.v_name_drift",
        "select * from odoo_seed.tombstones",
        "delete from odoo_seed.shadow_tasks",
        "insert into odoo_seed.projects (external_ref) values ('x')",
        "select * from odoo.modules",
        "select * from ops.retention",
        "select * from ops.schedules()",
        "select * from ops.prune()",
        "select * from catalog.permissions",
        "select * from catalog.databases",
        "insert into catalog.tools (name) values ('x')",
        "update catalog.assets set archived_at = null",
        "select catalog.register_asset('crm.eu.lead', 'table')",
        "select catalog.request('x', gen_random_uuid(), '{}', repeat('00', 32), now())",
        "select * from scout_gold.v_revenue_summary",
        "select * from scout_gold.mv_event_volume",
        "select erp.confirm_documents(1, '[1]')",
        "update erp.documents set name = 'x'",
        "insert into erp.bir_forms values ('1601C', 'x', 'monthly')",
    ],
)
def test_and_are_refused_when_they_try(sql: Sql, role: str, statement: str) -> None:
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        rows(sql.connect(role), statement)


def test_every_function_pins_its_search_path(sql: Sql) -> None:
    assert (
        sql(
            f"select p.oid::regprocedure::text from ({FUNCTIONS}) f join pg_proc p using (oid) "
            "where not coalesce('search_path=\"\"' = any (p.proconfig), false)"
        )
        == []
    )


def test_everything_belongs_to_a_role_that_is_not_a_superuser(sql: Sql) -> None:
    owners = "select pg_get_userbyid({0}owner) from pg_{1} where {0}namespace in " + SCHEMAS
    for prefix, catalog in (("rel", "class"), ("pro", "proc")):
        assert set(sql(owners.format(prefix, catalog))) == {("postgres",)}
    assert sql("select rolsuper, rolbypassrls, rolcreaterole from pg_roles where rolname = 'postgres'") == [
        (False, True, True)
    ]


def test_service_role_does_its_work_and_no_more(sql: Sql) -> None:
    service = sql.connect("service_role")
    body = '{"event_type":"a.b","aggregate_type":"a","aggregate_id":"1","payload":{}}'
    [(event_id, verdict)] = rows(
        service,
        "select id, verdict from odoo.ingest_event('x', gen_random_uuid(), 1, %s, repeat('0a', 32), now())",
        body,
    )
    assert verdict == "accepted"
    assert rows(service, "select completed from odoo.process_event(%s)", event_id) == [(1,)]
    assert rows(service, "select aggregates from odoo.sweep_events()") == [(0,)]
    assert rows(service, "select status from odoo.webhook_events") == [("completed",)]
    assert rows(service, "select count(*) from odoo.realtime_status()") == [(1,)]
    begin = '{"action":"begin","run":"019b76da-a87b-7000-8000-00000000abcd","full":true}'
    request = (
        "select verdict from odoo_seed.sync_request('finance', 'x', gen_random_uuid(), %s, repeat('0b', 32), now())"
    )
    assert rows(service, request, begin) == [("accepted",)]
    rows(service, "insert into odoo_seed.projects (instance_id, external_ref) select id, 'p' from odoo.instances")
    assert rows(service, "select external_ref from odoo_seed.v_missing_in_odoo") == [("p",)]
    for statement in (
        "insert into odoo.event_log (event_id) values (1)",
        "delete from odoo.event_log",
        "select * from odoo.accepted_signatures",
        "truncate odoo.webhook_events",
        "insert into odoo_seed.tombstones (instance_id) values (1)",
        "update odoo_seed.sync_runs set status = 'success'",
        "select * from odoo_seed.sync_pages",
        "create table odoo.mine ()",
        "update ops.jobs set command = 'select 1'",
        "insert into ops.jobs values ('ipai-mine', '* * * * *', 'select 1', true, '')",
        "update ops.retention set at_least = '0'",
        "insert into ops.refreshes (view_name, tried_at) values ('x', now())",
        "insert into catalog.assets (fqdn, type) values ('a.b.c', 'table')",
        "select catalog.put_assets('[]')",
        "select odoo.realtime_summary(1)",
    ):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            rows(service, statement)


def test_every_table_and_function_says_what_it_is(sql: Sql) -> None:
    assert sql(f"select t.oid::regclass::text from ({TABLES}) t where obj_description(t.oid, 'pg_class') is null") == []
    assert (
        sql(f"select f.oid::regprocedure::text from ({FUNCTIONS}) f where obj_description(f.oid, 'pg_proc') is null")
        == []
    )


AGGREGATE = "instance_id = 1 and aggregate_type = 'a' and aggregate_id = '7'"
LOOKED_FOR = {
    "webhook_events_pending": "webhook_events where status = 'pending' and received_at <= now() order by received_at",
    "webhook_events_retry": "webhook_events where status = 'failed' and next_retry_at <= now() order by next_retry_at",
    "webhook_events_processing": "webhook_events where status = 'processing' "
    "and processing_since < now() - interval '5 min' order by processing_since",
    "webhook_events_open": f"webhook_events where {AGGREGATE} and status <> 'completed'",
    "webhook_events_once": "webhook_events where instance_id = 1 "
    "and idempotency_key = '00000000-0000-0000-0000-000000000000'",
    "event_log_aggregate": f"event_log where {AGGREGATE} and sequence is not null order by sequence desc",
    "webhook_events_types": "webhook_events where instance_id = 1 "
    "and (aggregate_type, event_type) > ('a', 'a') order by aggregate_type, event_type",
    "accepted_signatures_expiry": "accepted_signatures where expires_at < now() order by expires_at",
}


def test_what_is_looked_for_has_an_index(sql: Sql) -> None:
    sql("insert into odoo.instances (name) values ('x')")
    state = "case n % 20 when 0 then 'pending' when 1 then 'processing' when 2 then 'failed' else 'completed' end"
    sql(
        "insert into odoo.webhook_events (instance_id, idempotency_key, sequence, event_type, aggregate_type, "
        "aggregate_id, payload, status, outcome, processed_at, next_retry_at, error_message, received_at) "
        "select 1, gen_random_uuid(), 1, 'a.b', 'a', n::text, '{}', s, case s when 'completed' then 'applied' end, "
        "case when s in ('completed', 'failed') then now() end, "
        "case s when 'failed' then now() + n * interval '1 s' end, case s when 'failed' then 'because' end, "
        "now() - n * interval '1 s' "
        f"from generate_series(1, 20000) n, lateral (select {state} as s) t"
    )
    sql(
        "insert into odoo.event_log (event_id, instance_id, idempotency_key, event_type, aggregate_type, aggregate_id, "
        "sequence, expected_sequence) "
        "select id, 1, idempotency_key, 'a.b', 'a', aggregate_id, 1, 1 from odoo.webhook_events"
    )
    sql(
        "insert into odoo.accepted_signatures "
        "select sha256(n::text::bytea), 'x', gen_random_uuid(), now() + n * interval '1 s' "
        "from generate_series(1, 20000) n"
    )
    sql("analyze")
    for index, looked_for in LOOKED_FOR.items():
        plan = "\n".join(row[0] for row in sql(f"explain select 1 from odoo.{looked_for} limit 9"))
        assert index in plan, plan
        assert "Seq Scan" not in plan, plan


def test_the_platform_may_be_laid_again(sql: Sql) -> None:
    for _ in range(2):
        rows(sql.connect(user=SUPERUSER), PLATFORM.read_text())
    assert sql("select count(*) from odoo.instances") == [(0,)]


def test_migrations_are_named_by_time_and_layer() -> None:
    names = sorted(path.name for path in (PROJECT / "migrations").iterdir() if path.is_file())
    assert names
    assert all(name[:14].isdigit() and name[14] == "_" and name.endswith(".sql") for name in names)
    assert len({name[:14] for name in names}) == len(names)
