"""Each fault, planted alone in a database that has our migrations, is found by the rule that is for it, and by no other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ipai_harness import audit
from ipai_harness.audit import DATABASE_RULES, Severity
from ipai_harness.audit.catalog import Catalog
from ipai_harness.audit.database_rules import db_version

if TYPE_CHECKING:
    from tests.harness.audit.conftest import Database

pytestmark = pytest.mark.stack

OPEN = "alter table public.planted enable row level security; revoke all on public.planted from anon;"
TABLE = "create table public.planted (id int, owner uuid default auth.uid());"
MINE = "create policy mine on public.planted to authenticated using (owner = (select auth.uid()));"
FUNCTION = "create function {0}() returns int language sql security definer {1} as $$ select 1 $$;"
CLOSED = "revoke execute on function {0}() from public, anon, authenticated;"
PINNED = "set search_path = ''"
APP = "create schema app; grant usage on schema app to authenticated;"
WRAPPER = "create foreign data wrapper f; create server s foreign data wrapper f; "

PLANTED: list[tuple[str, str, str, str]] = [
    # rule, what, SQL, object
    ("db-exposed-schema", "auth is exposed", "alter role authenticator in database {db} set pgrst.db_schemas = 'public, auth'",
     "schema auth"),
    ("db-exposed-schema", "the closed schema is exposed",
     "alter role authenticator in database {db} set pgrst.db_schemas = 'public, odoo_closed'; create schema odoo_closed",
     "schema odoo_closed"),
    ("db-table-without-rls", "a new table in public", "set role postgres; " + TABLE, "public.planted"),
    ("db-table-without-rls", "a new table without grants", "create table odoo.planted (id int)", "odoo.planted"),
    ("db-table-without-rls", "switched off", "alter table odoo.webhook_events disable row level security", "odoo.webhook_events"),
    ("db-table-without-rls", "a partition",
     "create table odoo.parts (id int) partition by range (id); alter table odoo.parts enable row level security;"
     "create table odoo.part partition of odoo.parts default", "odoo.part"),
    ("db-rls-without-policy", "a grant and no policy", "grant select on odoo.instances to authenticated", "odoo.instances"),
    ("db-rls-without-policy", "a grant on one column and no policy",
     "grant select (name) on odoo.instances to authenticated", "odoo.instances"),
    ("db-policy-anon", "to anon", "create policy planted on odoo.instances for select to anon using (active)",
     "policy planted on odoo.instances"),
    ("db-policy-anon", "always true for everybody", "create policy planted on odoo.instances using (true)",
     "policy planted on odoo.instances"),
    ("db-policy-anon", "does not ask who", "create policy planted on odoo.instances for select using (active and id > 3)",
     "policy planted on odoo.instances"),
    ("db-policy-anon", "asks for anon",
     "create policy planted on odoo.instances for select using (auth.role() = 'anon')", "policy planted on odoo.instances"),
    ("db-policy-write-unchecked", "WITH CHECK (true)",
     TABLE + OPEN + "create policy planted on public.planted for update to authenticated "
     "using (owner = (select auth.uid())) with check (true)", "policy planted on public.planted"),
    ("db-policy-write-unchecked", "every account writes everything",
     TABLE + OPEN + "create policy planted on public.planted to authenticated using (true)", "policy planted on public.planted"),
    ("db-policy-write-unchecked", "INSERT without a check",
     TABLE + OPEN + "create policy planted on public.planted for insert to authenticated", "policy planted on public.planted"),
    ("db-policy-user-metadata", "what users write themselves",
     TABLE + OPEN + "create policy planted on public.planted to authenticated "
     "using ((auth.jwt() -> 'user_metadata' ->> 'admin') = 'yes')", "policy planted on public.planted"),
    ("db-definer-executable", "in public", FUNCTION.format("public.planted", PINNED), "public.planted()"),
    ("db-definer-executable", "given to anon in schema odoo",
     "grant execute on function odoo.sweep_events(interval, integer) to anon",
     "odoo.sweep_events(p_older_than interval, p_limit integer, OUT aggregates integer, OUT completed integer, "
     "OUT superseded integer, OUT failed integer, OUT signatures_pruned integer)"),
    ("db-definer-executable", "for authenticated, through the API",
     FUNCTION.format("public.planted", PINNED) + CLOSED.format("public.planted") +
     "grant execute on function public.planted() to authenticated", "public.planted()"),
    ("db-definer-search-path", "not pinned", FUNCTION.format("odoo.planted", "") + CLOSED.format("odoo.planted"), "odoo.planted()"),
    ("db-definer-search-path", "the pin taken away", "alter function odoo.process_event(bigint) reset search_path",
     "odoo.process_event(p_id bigint, OUT completed integer, OUT superseded integer, OUT failed integer, OUT cancelled boolean)"),
    ("db-definer-search-path", "$user", FUNCTION.format("odoo.planted", 'set search_path = "$user", odoo')
     + CLOSED.format("odoo.planted"), "odoo.planted()"),
    ("db-view-bypasses-rls", "in public",
     "create view public.planted as select * from odoo.instances; grant select on public.planted to authenticated",
     "public.planted"),
    ("db-view-bypasses-rls", "security_invoker switched off",
     "create view public.planted with (security_invoker = false) as select 1 as one; grant select on public.planted to anon",
     "public.planted"),
    ("db-view-bypasses-rls", "in a schema of its own",
     APP + "create view app.planted as select * from odoo.instances; grant select on app.planted to authenticated", "app.planted"),
    ("db-materialized-view-readable", "a materialized view",
     "create materialized view public.planted as select 1 as one; grant select on public.planted to anon", "public.planted"),
    ("db-foreign-table-readable", "a foreign table",
     WRAPPER + "create foreign table public.planted (id int) server s; grant select on public.planted to authenticated",
     "public.planted"),
    ("db-anon-grant", "beside a policy for others",
     APP + "create table app.t (owner uuid); alter table app.t enable row level security; grant select on app.t to authenticated, anon;"
     "create policy p on app.t for select to authenticated using (owner = (select auth.uid()))", "app.t"),
    ("db-anon-grant", "usage of a schema", "grant usage on schema odoo to anon", "schema odoo"),
    ("db-schema-creatable", "everybody creates in public", "grant create on schema public to public", "schema public"),
    ("db-default-privileges", "future tables", "alter default privileges in schema odoo grant select on tables to anon", "schema odoo"),
    ("db-default-privileges", "future tables everywhere", "alter default privileges grant select on tables to public", "every schema"),
    ("db-extension-in-public", "an extension",
     # Not every build carries an extension that can be put there.
     "set allow_system_table_mods = on; update pg_extension set extnamespace = 'public'::regnamespace where extname = 'plpgsql'",
     "extension plpgsql"),
    ("db-log-changeable", "the trigger disabled", "alter table odoo.event_log disable trigger append_only", "odoo.event_log"),
    ("db-log-changeable", "the trigger without truncate",
     "drop trigger append_only on odoo.event_log; create trigger append_only before update or delete on odoo.event_log "
     "for each statement execute function odoo.refuse_change()", "odoo.event_log"),
    ("db-log-changeable", "a table that says it is append-only",
     "create table odoo.diary (id int); alter table odoo.diary enable row level security; comment on table odoo.diary is 'Append-only.'",
     "odoo.diary"),
    ("db-table-of-api-role", "owned by authenticated", TABLE + OPEN + MINE + "alter table public.planted owner to authenticated",
     "public.planted"),
    ("db-publishes-everything", "all tables", "create publication planted for all tables", "publication planted"),
]  # fmt: skip

EVERYWHERE = [
    # These change roles, which all databases of the cluster share: they are undone.
    ("db-role-raised", "role anon", "alter role anon bypassrls", "alter role anon nobypassrls"),
    (
        "db-role-raised",
        "role authenticated",
        "grant service_role to authenticated",
        "revoke service_role from authenticated",
    ),
]


@pytest.mark.parametrize(("rule", "sql", "where"), [(rule, sql, where) for rule, _, sql, where in PLANTED],
                         ids=[f"{rule}: {what}" for rule, what, _, _ in PLANTED])  # fmt: skip
def test_a_planted_fault_is_found_by_its_rule_alone(database: Database, rule: str, sql: str, where: str) -> None:
    database.execute(sql.replace("{db}", database.name))

    report = database.audit()

    assert [(finding.rule.id, finding.where) for finding in report.findings] == [(rule, where)]
    assert report.at_least(Severity.WARNING)


@pytest.mark.parametrize(("rule", "where", "plant", "undo"), EVERYWHERE, ids=[plant for _, _, plant, _ in EVERYWHERE])
def test_a_fault_of_a_role_is_found_by_its_rule_alone(
    database: Database, rule: str, where: str, plant: str, undo: str
) -> None:
    database.execute(plant)
    try:
        report = database.audit()
    finally:
        database.execute(undo)

    assert [(finding.rule.id, finding.where) for finding in report.findings] == [(rule, where)]


def test_our_own_database_gives_no_finding(each_database: Database) -> None:
    assert [finding.as_json() for finding in each_database.audit().findings] == []


INNOCENT = {
    "a table that asks who": TABLE + OPEN + MINE,
    "a table closed to clients": "create table odoo.t (id int); alter table odoo.t enable row level security",
    "a view that asks as the caller":
        "create view public.v with (security_invoker = true) as select 1 as one; grant select on public.v to anon",
    "a view for the service": "create view odoo.v as select 1 as one; grant select on odoo.v to service_role",
    "a function for the service": FUNCTION.format("public.f", PINNED) + CLOSED.format("public.f")
        + "grant execute on function public.f() to service_role",
    "a function that policies call": APP + FUNCTION.format("app.f", PINNED) + CLOSED.format("app.f")
        + "grant execute on function app.f() to authenticated",
    "a trigger function": "create function public.f() returns trigger language plpgsql security definer set search_path = '' "
        "as $$ begin return new; end $$",
    "a restrictive policy": TABLE + OPEN + MINE + "create policy r on public.planted as restrictive for select using (true)",
    "a schema exposed on purpose": APP + "alter role authenticator in database {db} set pgrst.db_schemas = 'public, app'",
    "the platform's own tables": "create schema if not exists storage; create table storage.t (id int)",
    "a materialized view for the service":
        "create materialized view odoo.m as select 1 as one; grant select on odoo.m to service_role",
}  # fmt: skip


@pytest.mark.parametrize("what", INNOCENT)
def test_what_is_innocent_gives_no_finding(database: Database, what: str) -> None:
    database.execute(INNOCENT[what].replace("{db}", database.name))

    assert [finding.as_json() for finding in database.audit().findings] == []


def test_every_rule_has_a_planted_fault() -> None:
    planted = {rule for rule, *_ in PLANTED} | {rule for rule, *_ in EVERYWHERE}

    assert {rule.id for rule in DATABASE_RULES} - planted == {"db-version"}


@pytest.mark.parametrize(
    ("major", "severities"), [(14, [Severity.ERROR]), (15, []), (16, []), (17, [Severity.WARNING])]
)
def test_versions_other_than_15_and_16_are_found(major: int, severities: list[Severity]) -> None:
    catalog = Catalog({"version": [{"major": major, "version": f"{major}.1"}]})

    assert [found.severity or db_version.severity for found in db_version.check(catalog)] == severities


def test_a_schema_that_config_toml_exposes_counts_for_the_database(database: Database) -> None:
    database.execute(APP + FUNCTION.format("app.f", PINNED) + CLOSED.format("app.f"))
    database.execute("grant execute on function app.f() to authenticated")
    project = database.server.directory / f"{database.name}-project"
    project.mkdir()
    (project / "config.toml").write_text('[api]\nschemas = ["public", "app"]\n')

    report = audit.run(project, database.dsn)

    assert ("db-definer-executable", "app.f()") in [(finding.rule.id, finding.where) for finding in report.findings]


def test_nothing_is_written_and_nothing_of_the_database_is_run(database: Database) -> None:
    # Operators and functions of the project's that look like the catalogues' own.
    database.execute(
        "create function public.has_table_privilege(name, oid, text) returns boolean language plpgsql as "
        "$$ begin raise exception 'run'; end $$;"
        "create view public.pg_class as select 1 as oid; alter view public.pg_class set (security_invoker = true);"
        "create table public.seen (n int); alter table public.seen enable row level security;"
        "alter role looker in database {db} set search_path = public, pg_catalog".replace("{db}", database.name)
    )

    assert {finding.severity for finding in database.audit().findings} <= {Severity.INFO}


def test_an_empty_database_gives_no_finding() -> None:
    catalog = Catalog(dict.fromkeys(["exposed", "roles", "schemas", "relations", "policies", "definers", "defaults",
                                     "extensions", "publications"], ()) | {"version": [{"major": 16, "version": "16"}]})  # fmt: skip

    assert [found for rule in DATABASE_RULES for found in rule.check(catalog)] == []
