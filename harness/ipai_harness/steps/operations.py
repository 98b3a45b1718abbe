"""What runs by itself, what the project brings along, and who may do what."""

from __future__ import annotations

import json
from typing import Any

import psycopg2.errors
from pytest_bdd import parsers, then, when

from ipai_harness.stack import migrations, paths
from ipai_harness.steps.waiting import until
from ipai_harness.steps.world import World

_EVENT = "update odoo.webhook_events e set {change} from odoo.instances i where i.id = e.instance_id and i.name = %s"


def _last(world: World) -> str:
    return world.sent[1]["x-idempotency-key"]


# --- schedules


@when("the event is as a crash would have left it")
def as_after_a_crash(world: World) -> None:
    """Received a minute ago, and not processed."""
    world.supabase_sql(
        _EVENT.format(
            change="status = 'pending', outcome = null, processed_at = null, received_at = now() - interval '1 minute'"
        )
        + " and e.idempotency_key = %s",
        world.instance,
        _last(world),
    )


@when("the event is still not done")
def not_done(world: World) -> None:
    """A consumer outside has it, and takes its time."""
    until(
        lambda: [event.webhook_status for event in world.events()], lambda all: set(all) == {"completed"}, what="done"
    )
    world.supabase_sql(
        _EVENT.format(change="status = 'processing', outcome = null") + " and e.idempotency_key = %s",
        world.instance,
        _last(world),
    )


@when(parsers.parse("every event is {days:d} days old"))
def are_old(world: World, days: int) -> None:
    """Of this sender."""
    world.supabase_sql(
        _EVENT.format(
            change=f"received_at = e.received_at - interval '{days} days', "
            f"processed_at = e.processed_at - interval '{days} days'"
        ),
        world.instance,
    )


@when("what is old is pruned")
def prune(world: World) -> None:
    """As the schedule does every night."""
    world.supabase_sql("select * from ops.prune()")


@then(parsers.parse('of the record "{record}" there is only {payload}'))
def only(world: World, record: str, payload: str) -> None:
    """One event."""
    assert [event.received for event in world.events() if event.aggregate_id == record] == [json.loads(payload)]


@then("each schedule says whether it is registered, or why not")
def schedules(world: World) -> None:
    """`ops.schedules()`."""
    rows = world.supabase_sql("select job, schedule, scheduled, problem from ops.schedules()")
    assert len(rows) >= 3
    for job, schedule, scheduled, problem in rows:
        assert schedule, job
        assert scheduled or problem, f"{job} is not scheduled, and nothing says why"


@when("a scheduled action of Odoo syncs the projects and tasks")
def odoo_cron(world: World) -> None:
    """An ir.cron whose code is one line."""
    values = {
        "name": "Sync to Supabase", "model_id": world.odoo.model_id("res.partner"), "state": "code",
        "code": 'ipai_bridge.sync(env, "finance", full=True)', "interval_number": 1, "interval_type": "days",
    }  # fmt: skip
    cron = world.odoo.create("ir.cron", values)
    world.undo.callback(world.odoo.unlink, "ir.cron", [cron])
    world.odoo.call("ir.cron", "method_direct_trigger", [cron])
    statuses = "select r.status from odoo_seed.sync_runs r join odoo.instances i on i.id = r.instance_id where"
    until(lambda: world.ours(statuses), lambda found: found == [("success",)], what="the sync has ended in success")


# --- seeds

_SEEDED = (
    "select 'tool', name, xmin::text from catalog.tools union all select 'asset', fqdn, xmin::text from catalog.assets "
    "union all select 'form', code, xmin::text from erp.bir_forms "
    "union all select 'handler', event_type || handler, xmin::text from odoo.event_handlers "
    "union all select 'project', external_ref, xmin::text from odoo_seed.projects "
    "union all select 'task', external_ref, xmin::text from odoo_seed.tasks order by 1, 2, 3"
)


@when("the seeds are applied again")
def seed_again(world: World) -> None:
    """All parts, in their order."""
    world.notes["seeded"] = world.supabase_sql(_SEEDED)
    assert len(world.notes["seeded"]) > 50
    files = migrations.seed_files(paths.supabase_project())
    assert len(files) == 9
    for file in files:
        world.supabase_sql(file.read_text())


@then("not one row was written")
def not_written(world: World) -> None:
    """Each row is the very version that it was."""
    assert world.supabase_sql(_SEEDED) == world.notes["seeded"]


@then("every tool of the catalog has a JSON schema of its arguments")
def tools(world: World) -> None:
    """An object, whose properties say their types."""
    rows: list[tuple[str, Any]] = world.supabase_sql("select name, input_schema from catalog.tools")
    assert len(rows) >= 5
    for name, schema in rows:
        assert schema["type"] == "object", name
        for argument in schema.get("properties", {}).values():
            assert {"type", "enum", "const", "anyOf", "oneOf", "$ref"} & set(argument), f"{name}: {argument}"


@then(parsers.parse('the forms "{first}", "{second}" and "{third}" are known'))
def forms(world: World, first: str, second: str, third: str) -> None:
    """With a title."""
    rows = world.supabase_sql("select code, title from erp.bir_forms")
    assert {first, second, third} <= {code for code, title in rows if title}


@then("every node of every diagram is an asset of the catalog")
def diagrams(world: World) -> None:
    """An active one, and each diagram shows something."""
    rows = world.supabase_sql(
        "select a.fqdn, (select count(*) from catalog.lineage_edges e where e.kind = 'flows_to' "
        "and e.details -> 'diagrams' ? a.fqdn) from catalog.assets a where a.type = 'diagram' and a.archived_at is null"
    )
    assert rows
    assert (
        world.supabase_sql(
            "select e.from_fqdn, e.to_fqdn from catalog.lineage_edges e where e.kind = 'flows_to' and not exists "
            "(select from catalog.assets a where a.fqdn in (e.from_fqdn, e.to_fqdn) and a.archived_at is null)"
        )
        == []
    )


# --- security

_ROLES = {
    "anonymous": ("anon", "{}"),
    "signed in, without permission": ("authenticated", '{"role": "authenticated", "app_metadata": {}}'),
}


@then(parsers.re(r"somebody (?P<who>anonymous|signed in, without permission) cannot read (?P<table>\w+\.\w+)"))
def cannot_read(world: World, who: str, table: str) -> None:
    """Refused, or shown no row of those that are there."""
    role, claims = _ROLES[who]
    try:
        rows = world.supabase_sql(
            f"set local role {role}; select set_config('request.jwt.claims', %s, true); select count(*) from {table}",
            claims,
        )
    except psycopg2.errors.InsufficientPrivilege:
        return
    assert rows == [(0,)]


@then("every table of every schema of ours has row-level security")
def row_level_security(world: World) -> None:
    """As the last migration makes sure, and as can be asked at any time."""
    tables = world.supabase_sql(
        "select c.oid::regclass::text, c.relrowsecurity from pg_class c join pg_namespace n on n.oid = c.relnamespace "
        "where c.relkind in ('r', 'p') and n.nspname = any (ops.our_schemas())"
    )
    assert len(tables) > 20
    assert [table for table, secured in tables if not secured] == []
    assert world.supabase_sql("select * from ops.what_stands_open()") == []


@when("the project and its database are audited")
def audit(world: World) -> None:
    """`ipai-harness audit`, of both."""
    project = str(paths.supabase_project())
    dsn = world.target.supabase_dsn
    assert dsn is not None
    world.notes["audits"] = [
        world.harness("audit", "--project", project, "--json"),
        world.harness("audit", "--db", dsn, "--json"),
    ]


@then("the audit finds nothing")
def nothing_found(world: World) -> None:
    """In neither."""
    for done in world.notes["audits"]:
        assert done.returncode == 0, done.stdout + done.stderr
        assert json.loads(done.stdout)["findings"] == []
